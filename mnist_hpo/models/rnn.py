"""Recurrent networks that read an image row by row: stacked layers of a GRU or an LSTM, in one or both directions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout


@cache
def module() -> type[nnx.Module]:
    """Return the class. It imports Flax here, because the coordinator loads this file too."""
    import jax.numpy as jnp
    from flax import nnx

    from mnist_hpo.kernels.plain_recurrence import GRU, LSTM
    from mnist_hpo.layers.mixed_precision import dot_general
    from mnist_hpo.layers.recurrent import recur

    class Recurrence(nnx.Module):
        """One layer in one direction: f32[T, B, I] to f32[T, B, width]. One product projects all time steps."""

        def __init__(
            self, n_inputs: int, width: int, cell: str, precision: str, *, reverse: bool, rngs: nnx.Rngs
        ) -> None:
            self.cell, self.precision, self.reverse = {"gru": GRU, "lstm": LSTM}[cell], precision, reverse
            n_columns = self.cell.n_gates * width
            self.projection = nnx.Linear(n_inputs, n_columns, rngs=rngs)
            self.recurrent = nnx.Param(jnp.zeros((width, n_columns)), role="weight", fan_in=width)

        def __call__(self, x: jax.Array, number: int, dropout: Dropout) -> jax.Array:
            n_rows, n_examples, _ = x.shape
            bias, noise = self.projection.bias, None
            assert bias is not None
            if dropout.adds_noise:
                n_columns = len(bias[...])
                noise = dropout.noise(number, jnp.zeros((n_rows * n_examples, n_columns)))
                noise = noise.reshape(n_rows, n_examples, n_columns)
            parameters = self.projection.kernel[...], bias[...], self.recurrent[...]
            return recur(x, *parameters, noise, self.cell, self.precision, self.reverse)

    class RNN(nnx.Module):
        """Maps f32[batch, height, width, channels] to logits f32[batch, n_classes]."""

        def __init__(
            self,
            input_shape: tuple[int, int, int],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            depth, self.width = int(hyperparameters["depth"]), int(hyperparameters["width"])
            directions = (False, True) if hyperparameters["direction"] == "both" else (False,)
            cell, self.readout = str(hyperparameters["cell"]), str(hyperparameters["readout"])
            n_row, n_between = input_shape[1] * input_shape[2], len(directions) * self.width

            def make(n_inputs: int, reverse: bool) -> Recurrence:
                return Recurrence(n_inputs, self.width, cell, precision, reverse=reverse, rngs=rngs)

            self.layers = nnx.List(
                [
                    nnx.List([make(n_inputs, reverse) for reverse in directions])
                    for n_inputs in (n_row, *[n_between] * (depth - 1))
                ]
            )
            self.logits = nnx.Linear(n_between, n_classes, dot_general=dot_general(precision), rngs=rngs)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            n_examples, n_rows = x.shape[:2]
            # Time first, so that a time step's rows are contiguous in memory.
            x = x.reshape(n_examples, n_rows, -1).transpose(1, 0, 2)
            for layer, directions in enumerate(self.layers):
                if layer > 0:
                    x = dropout(layer - 1, x.reshape(n_rows * n_examples, -1)).reshape(x.shape)
                outputs = [one(x, 2 * layer + index, dropout) for index, one in enumerate(directions)]
                x = jnp.concatenate(outputs, axis=2)
            summary = x.mean(axis=0) if self.readout == "mean" else self._last(x)
            return self.logits(dropout(len(self.layers) - 1, summary))

        def _last(self, x: jax.Array) -> jax.Array:
            """Return the last output of each direction; that of the reverse one is at the first row."""
            return jnp.concatenate([x[-1, :, : self.width], x[0, :, self.width :]], axis=1)

    return RNN


MODEL = FlaxModel(
    hyperparameters={
        "cell": Choice("gru", ("gru", "lstm")),
        "depth": Number(int, default=1, low=1, high=16),
        "width": Number(int, default=128, low=1, high=4096),
        "direction": Choice("forward", ("forward", "both")),
        "readout": Choice("last", ("last", "mean")),
    },
    module=module,
    images="shaped",
)
