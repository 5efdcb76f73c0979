"""The multilayer perceptron: `depth` hidden layers of `width` units, each with an activation and dropout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial

import jax
from flax import nnx

from mnist_hpo.models.dropout import Dropout
from mnist_hpo.models.mixed_precision import dot_general
from mnist_hpo.spec.study import ParameterValue

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "gelu": nnx.gelu,
    "silu": nnx.silu,
    "tanh": nnx.tanh,
}


class MLP(nnx.Module):
    """f32[batch, n_features] to logits f32[batch, n_classes]."""

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        architecture: Mapping[str, ParameterValue],
        precision: str,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        depth, width = int(architecture["depth"]), int(architecture["width"])
        sizes = [n_features] + [width] * depth
        self.activation = _ACTIVATIONS[str(architecture["activation"])]
        linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
        self.hidden = nnx.List([linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)])
        self.logits = linear(width, n_classes)

    def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
        """Return logits f32[batch, n_classes]; `dropout` is told the layer's number and its activations."""
        for layer, linear in enumerate(self.hidden):
            x = dropout(layer, self.activation(linear(x)))
        return self.logits(x)


build = MLP
