"""Build a network with initial weights like ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mnist_hpo.bench.pytorch_models import cnn, mlp, rnn, transformer
from mnist_hpo.spec.parameter import ParameterSet

_BUILD: Mapping[str, Callable[[Any, ParameterSet], Any]] = {
    "mlp": mlp.build,
    "cnn": cnn.build,
    "rnn": rnn.build,
    "transformer": transformer.build,
}


def build(torch: Any, model: str, hyperparameters: ParameterSet) -> Any:
    """Return a network that maps f32[batch, 1, 28, 28] to logits f32[batch, 10].

    The weights are drawn as ours are: normal with a variance of 2 / fan-in (He et al., 2015), and biases of zero.

    Args:
        torch: the package.
        model: mlp, cnn, rnn or transformer.
        hyperparameters: a value for each hyperparameter of the training.

    """
    network = _BUILD[model](torch, hyperparameters)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1:
            # The positions are a kernel for the one-hot number of a token.
            mode = "fan_out" if name == "positions" else "fan_in"
            torch.nn.init.kaiming_normal_(parameter, mode=mode, nonlinearity="relu")
        elif "bias" in name:
            torch.nn.init.zeros_(parameter)
    return network
