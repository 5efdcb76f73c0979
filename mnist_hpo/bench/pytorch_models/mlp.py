"""The multilayer perceptron in PyTorch."""

from __future__ import annotations

from typing import Any

from mnist_hpo.spec.parameter import ParameterSet


def build(torch: Any, hyperparameters: ParameterSet) -> Any:
    """Return the network, of `depth` hidden layers with ReLU and dropout."""
    width, rate = int(hyperparameters["width"]), float(hyperparameters["dropout"])
    layers: list[Any] = [torch.nn.Flatten()]
    n_in = 28 * 28
    for _ in range(int(hyperparameters["depth"])):
        layers += [torch.nn.Linear(n_in, width), torch.nn.ReLU(), torch.nn.Dropout(rate)]
        n_in = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(n_in, 10))
