"""The multilayer perceptron: `depth` hidden layers of `width` units, each with an activation and dropout.

Optional: normalisation, noise before the activations, residual connections, and widths that shrink from layer to layer.
"""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import Counts, FlaxModel, Tensors
from mnist_hpo.spec.operations import Operation, activation, batch_norm, dense, layer_norm
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout

_MOMENTUM = 0.95
"""Of the running moments of BatchNorm: they are averages over the last 20 steps or so."""


@cache
def module() -> type[nnx.Module]:
    """Return the class. It imports Flax here, because the coordinator loads this file too, and Flax takes a second."""
    from flax import nnx

    from mnist_hpo.layers.mixed_precision import dot_general

    class MLP(nnx.Module):
        """Maps f32[batch, n_features] to logits f32[batch, n_classes]."""

        def __init__(
            self,
            input_shape: tuple[int, ...],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            normalization = str(hyperparameters["normalization"])
            self.activation = getattr(nnx, str(hyperparameters["activation"]))
            self.residual = hyperparameters["residual"] == "yes"
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            widths = _widths(hyperparameters)
            # A normalisation layer adds a bias, so the linear layer before it needs none.
            hidden = partial(linear, use_bias=normalization == "none")
            self.hidden = nnx.List([hidden(n_in, n_out) for n_in, n_out in itertools.pairwise([*input_shape, *widths])])
            if normalization == "batch":
                self.norms = nnx.List([nnx.BatchNorm(width, momentum=_MOMENTUM, rngs=rngs) for width in widths])
            elif normalization == "layer":
                self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for width in widths])
            else:
                self.norms = None
            self.logits = linear(widths[-1], n_classes)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            for layer, linear in enumerate(self.hidden):
                y = linear(x)
                if self.norms is not None:
                    y = self.norms[layer](y)
                y = dropout(layer, self.activation(dropout.noise(layer, y)))
                x = x + y if self.residual and layer > 0 and x.shape == y.shape else y
            return self.logits(x)

    return MLP


def _widths(hyperparameters: ParameterSet) -> list[int]:
    """Return the width of each hidden layer: each has `taper` times the width of the one before."""
    width, taper = int(hyperparameters["width"]), float(hyperparameters["taper"])
    return [max(1, round(width * taper**layer)) for layer in range(int(hyperparameters["depth"]))]


def counts(input_shape: tuple[int, ...], n_classes: int, hyperparameters: ParameterSet) -> Counts:
    """Return the counts in closed form, since a search over widths has a new architecture in every trial."""
    widths = _widths(hyperparameters)
    first, *others = (n_in * n_out for n_in, n_out in itertools.pairwise([*input_shape, *widths, n_classes]))
    # A layer has one bias for each unit, or a normalisation's scale and bias.
    n_per_unit = 1 if hyperparameters["normalization"] == "none" else 2
    return Counts(
        n_parameters=first + sum(others) + n_per_unit * sum(widths) + n_classes,
        forward_flops=2 * (first + sum(others)),
        train_flops=4 * first + 6 * sum(others),
    )


def operations(hyperparameters: ParameterSet, tensors: Tensors) -> list[Operation]:
    """Return the operations of a prediction."""
    normalize = {"none": None, "batch": batch_norm, "layer": layer_norm}[str(hyperparameters["normalization"])]
    widths = _widths(hyperparameters)
    found: list[Operation] = []
    for layer, width in enumerate(widths):
        adds = hyperparameters["residual"] == "yes" and layer > 0 and widths[layer - 1] == width
        found += [
            *([Operation("keep")] if adds else []),
            dense(tensors, f"hidden.{layer}"),
            *([normalize(tensors, f"norms.{layer}")] if normalize else []),
            activation(str(hyperparameters["activation"])),
            *([Operation("add_kept")] if adds else []),
        ]
    return [*found, dense(tensors, "logits")]


MODEL = FlaxModel(
    hyperparameters={
        "depth": Number(int, default=2, low=1, high=16),
        "width": Number(int, default=128, low=1, high=8192),
        "taper": Number(float, default=1.0, low=0.01, high=1),
        "activation": Choice("relu", ("relu", "gelu", "silu", "tanh", "elu", "leaky_relu", "sigmoid")),
        "normalization": Choice("none", ("none", "batch", "layer")),
        "residual": Choice("no", ("no", "yes")),
    },
    module=module,
    counts=counts,
    operations=operations,
)
