"""The convolutional networks in PyTorch, in the memory format `channels_last`, which is the faster one on a CPU."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from mnist_hpo.spec.parameter import ParameterSet


def build(torch: Any, hyperparameters: ParameterSet) -> Any:
    """Return the network of `architecture`: lenet or vgg."""
    make = {"lenet": _lenet, "vgg": _vgg}[str(hyperparameters["architecture"])]
    return make(torch, hyperparameters).to(memory_format=torch.channels_last)


def _lenet(torch: Any, hyperparameters: ParameterSet) -> Any:
    nn, functional = torch.nn, torch.nn.functional
    channels = int(hyperparameters["channels"])
    more = 8 * channels // 3

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = int(hyperparameters["kernel_size"])
            self.activation = _activation(functional, hyperparameters)
            self.convolutions = nn.ModuleList(
                [nn.Conv2d(1, channels, size, padding="same"), nn.Conv2d(channels, more, size, padding="same")]
            )
            self.hidden = nn.ModuleList(
                [nn.Linear(7 * 7 * more, 20 * channels), nn.Linear(20 * channels, 14 * channels)]
            )
            self.dropout = nn.Dropout(float(hyperparameters["dropout"]))
            self.logits = nn.Linear(14 * channels, 10)

        def forward(self, x: Any) -> Any:
            for convolution in self.convolutions:
                x = functional.avg_pool2d(self.activation(convolution(x)), 2)
            # The pixels before the channels, as they are in memory.
            x = x.permute(0, 2, 3, 1).flatten(1)
            for linear in self.hidden:
                x = self.dropout(self.activation(linear(x)))
            return self.logits(x)

    return LeNet()


def _vgg(torch: Any, hyperparameters: ParameterSet) -> Any:
    nn, functional = torch.nn, torch.nn.functional
    channels = int(hyperparameters["channels"])
    sizes = [1, channels, channels, 2 * channels, 2 * channels]

    class VGG(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = int(hyperparameters["kernel_size"])
            self.activation = _activation(functional, hyperparameters)
            self.convolutions = nn.ModuleList(
                [nn.Conv2d(n_in, n_out, size, padding="same", bias=False) for n_in, n_out in itertools.pairwise(sizes)]
            )
            self.norms = nn.ModuleList([nn.BatchNorm2d(n_out) for n_out in sizes[1:]])
            self.dropout = nn.Dropout(float(hyperparameters["dropout"]))
            self.logits = nn.Linear(2 * channels, 10)

        def forward(self, x: Any) -> Any:
            for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
                x = self.activation(norm(convolution(x)))
                if layer == 1:
                    x = functional.max_pool2d(x, 2)
            return self.logits(self.dropout(x.mean(dim=(2, 3))))

    return VGG()


def _activation(functional: Any, hyperparameters: ParameterSet) -> Any:
    name = str(hyperparameters["activation"])
    return partial(functional.gelu, approximate="tanh") if name == "gelu" else getattr(functional, name)
