"""The models by name: what each can be told, and what it costs. Loads no JAX, so that a study is checked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mnist_hpo.spec.parameter import Choice, Number, Parameter
from mnist_hpo.spec.study import ParameterValue

Architecture = tuple[tuple[str, ParameterValue], ...]
"""What shapes a model, as sorted (name, value) pairs: hashable, so that programs are kept by it."""


class MultiplyAdds(NamedTuple):
    """One example's forward pass, in multiply-adds."""

    first_layer: int
    """Apart, because nobody needs the gradient of its input."""
    other_layers: int


@dataclass(frozen=True)
class ModelInfo:
    """A model that studies can name."""

    architecture: Mapping[str, Parameter]
    """The hyperparameters that shape the program: another value is another compile."""
    module: str
    """The module that builds it, with a function `build(n_features, n_classes, architecture, rngs)`."""
    multiply_adds: Callable[[int, int, Mapping[str, ParameterValue]], MultiplyAdds]
    """Of one example's forward pass, from (n_features, n_classes, architecture)."""
    n_parameters: Callable[[int, int, Mapping[str, ParameterValue]], int]
    """How many numbers training learns, from the same."""


def _mlp_multiply_adds(n_features: int, n_classes: int, architecture: Mapping[str, ParameterValue]) -> MultiplyAdds:
    depth, width = int(architecture["depth"]), int(architecture["width"])
    return MultiplyAdds(n_features * width, (depth - 1) * width * width + width * n_classes)


def _mlp_n_parameters(n_features: int, n_classes: int, architecture: Mapping[str, ParameterValue]) -> int:
    depth, width = int(architecture["depth"]), int(architecture["width"])
    n_biases = depth * width + n_classes
    return sum(_mlp_multiply_adds(n_features, n_classes, architecture)) + n_biases


MODELS: Mapping[str, ModelInfo] = {
    "mlp": ModelInfo(
        architecture={
            "depth": Number(int, default=2, low=1, high=16),
            "width": Number(int, default=128, low=1, high=8192),
            "activation": Choice("relu", ("relu", "gelu", "silu", "tanh")),
        },
        module="mnist_hpo.models.mlp",
        multiply_adds=_mlp_multiply_adds,
        n_parameters=_mlp_n_parameters,
    ),
}
