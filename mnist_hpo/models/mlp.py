"""The multilayer perceptron: `depth` hidden layers of `width` units, each with an activation and dropout."""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import Counts, FlaxModel
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout


@cache
def module() -> type[nnx.Module]:
    """Return the class. Imports Flax only when called: the coordinator imports this file, and Flax takes a second."""
    from flax import nnx

    from mnist_hpo.layers.mixed_precision import dot_general

    class MLP(nnx.Module):
        """f32[batch, n_features] to logits f32[batch, n_classes]."""

        def __init__(
            self,
            input_shape: tuple[int, ...],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            depth, width = int(hyperparameters["depth"]), int(hyperparameters["width"])
            self.activation = getattr(nnx, str(hyperparameters["activation"]))
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            sizes = [*input_shape, *[width] * depth]
            self.hidden = nnx.List([linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)])
            self.logits = linear(width, n_classes)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            for layer, linear in enumerate(self.hidden):
                x = dropout(layer, self.activation(linear(x)))
            return self.logits(x)

    return MLP


def counts(input_shape: tuple[int, ...], n_classes: int, hyperparameters: ParameterSet) -> Counts:
    """Return the counts in closed form, since a search over widths has a new architecture in every trial."""
    depth, width = int(hyperparameters["depth"]), int(hyperparameters["width"])
    (n_features,) = input_shape
    first, others = n_features * width, (depth - 1) * width * width + width * n_classes
    n_biases = depth * width + n_classes
    return Counts(
        n_parameters=first + others + n_biases,
        forward_flops=2 * (first + others),
        train_flops=4 * first + 6 * others,
    )


MODEL = FlaxModel(
    hyperparameters={
        "depth": Number(int, default=2, low=1, high=16),
        "width": Number(int, default=128, low=1, high=8192),
        "activation": Choice("relu", ("relu", "gelu", "silu", "tanh")),
    },
    module=module,
    counts=counts,
)
