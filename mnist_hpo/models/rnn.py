"""Recurrent networks that read an image row by row: GRU and LSTM, in one or both directions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout

_READ_OUT = 100
"""The read-out's number as a layer that is dropped; recurrent layers are counted from 0."""


@cache
def module() -> type[nnx.Module]:
    """Return the class. It imports Flax here, because the coordinator loads this file too, and Flax takes a second."""
    import jax.numpy as jnp
    from flax import nnx

    from mnist_hpo.layers.mixed_precision import dot_general
    from mnist_hpo.layers.recurrent import gru, lstm

    cells: dict[str, tuple[int, Callable[..., jax.Array]]] = {"gru": (3, gru), "lstm": (4, lstm)}

    class Layer(nnx.Module):
        """One direction: maps f32[batch, T, n_in] to the states f32[batch, T, width]."""

        def __init__(self, n_in: int, width: int, cell: str, precision: str, *, rngs: nnx.Rngs) -> None:
            n_gates, self.scan = cells[cell]
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            self.inputs = linear(n_in, n_gates * width)
            self.recurrent = linear(width, n_gates * width, use_bias=False)
            self.precision = precision

        def __call__(self, x: jax.Array, *, reverse: bool) -> jax.Array:
            # One product for the inputs of all times; only the recurrent product is computed time by time.
            return self.scan(self.inputs(x), self.recurrent.kernel[...], self.precision, reverse=reverse)

    class RNN(nnx.Module):
        """Maps f32[batch, height, width, channels] to logits f32[batch, n_classes]; a row is the input of one time."""

        def __init__(
            self,
            input_shape: tuple[int, int, int],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            _, n_columns, n_channels = input_shape
            cell, width = str(hyperparameters["cell"]), int(hyperparameters["width"])
            self.reads_last = hyperparameters["read_out"] == "last"
            self.directions = (False, True) if hyperparameters["bidirectional"] == "yes" else (False,)
            n_out = width * len(self.directions)
            sizes = [n_columns * n_channels, *[n_out] * (int(hyperparameters["depth"]) - 1)]
            self.layers = nnx.List(
                [nnx.List([Layer(n_in, width, cell, precision, rngs=rngs) for _ in self.directions]) for n_in in sizes]
            )
            self.logits = nnx.Linear(n_out, n_classes, dot_general=dot_general(precision), rngs=rngs)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            x = x.reshape(*x.shape[:2], -1)
            for index, layer in enumerate(self.layers):
                if index > 0:
                    x = dropout(index - 1, x)
                outputs = [one(x, reverse=reverse) for one, reverse in zip(layer, self.directions, strict=True)]
                x = jnp.concatenate(outputs, axis=2)
            return self.logits(dropout(_READ_OUT, self.last(x) if self.reads_last else x.mean(axis=1)))

        def last(self, x: jax.Array) -> jax.Array:
            """Return the states after all rows; of the backward direction, that is the state at the first row."""
            parts = jnp.split(x, len(self.directions), axis=2)
            ends = [part[:, 0 if reverse else -1] for part, reverse in zip(parts, self.directions, strict=True)]
            return jnp.concatenate(ends, axis=1)

    return RNN


MODEL = FlaxModel(
    hyperparameters={
        "cell": Choice("gru", ("gru", "lstm")),
        "depth": Number(int, default=1, low=1, high=8),
        "width": Number(int, default=128, low=1, high=2048),
        "bidirectional": Choice("no", ("no", "yes")),
        "read_out": Choice("last", ("last", "mean")),
    },
    module=module,
    images="shaped",
)
