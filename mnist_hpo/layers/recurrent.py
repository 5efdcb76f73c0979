"""The recurrences of GRU and LSTM, with the products of the inputs already computed.

Shapes: B examples, T times, U units.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.layers.mixed_precision import matmul


def gru(inputs: jax.Array, kernel: jax.Array, precision: str, *, reverse: bool = False) -> jax.Array:
    """Return the states of a gated recurrent unit, f32[B, T, U].

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), in the form that cuDNN and PyTorch
    have: the reset gate multiplies the recurrent product, so that all three gates need one product only. The biases are
    those of the inputs; there is none within the reset gate.

    Args:
        inputs: f32[B, T, 3 U], the products of the inputs for the reset gate, the update gate and the candidate.
        kernel: f32[U, 3 U].
        precision: of the products.
        reverse: whether time runs backward.

    """
    n_units = kernel.shape[0]

    def step(state: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        recurrent: jax.Array = matmul(state, kernel, precision)
        gates = jax.nn.sigmoid(now[:, : 2 * n_units] + recurrent[:, : 2 * n_units])
        reset, update = gates[:, :n_units], gates[:, n_units:]
        candidate = jnp.tanh(now[:, 2 * n_units :] + reset * recurrent[:, 2 * n_units :])
        state = candidate + update * (state - candidate)
        return state, state

    start = jnp.zeros((inputs.shape[0], n_units), inputs.dtype)
    _, states = lax.scan(step, start, inputs.swapaxes(0, 1), reverse=reverse)
    return states.swapaxes(0, 1)


def lstm(inputs: jax.Array, kernel: jax.Array, precision: str, *, reverse: bool = False) -> jax.Array:
    """Return the outputs of a long short-term memory, f32[B, T, U].

    Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al. (2000), whose bias
    starts at 1 as Jozefowicz et al. (2015) recommend.

    Args:
        inputs: f32[B, T, 4 U], the products of the inputs for input gate, forget gate, candidate and output gate.
        kernel: f32[U, 4 U].
        precision: of the products.
        reverse: whether time runs backward.

    """
    n_units = kernel.shape[0]

    def step(carried: tuple[jax.Array, jax.Array], now: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        output, cell = carried
        recurrent: jax.Array = matmul(output, kernel, precision)
        gates = now + recurrent
        enter, forget, candidate, leave = (gates[:, k * n_units : (k + 1) * n_units] for k in range(4))
        cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        output = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return (output, cell), output

    zeros = jnp.zeros((inputs.shape[0], n_units), inputs.dtype)
    _, outputs = lax.scan(step, (zeros, zeros), inputs.swapaxes(0, 1), reverse=reverse)
    return outputs.swapaxes(0, 1)
