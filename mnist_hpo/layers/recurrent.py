"""Recurrent layers over a sequence: the gated recurrent unit (GRU) and long short-term memory (LSTM).

The gradients are written out. Those that JAX derives from a scan compute the gradient of the recurrent kernel in each
time step, as a product over the batch alone. Here the backward scan only stores the gradients of the gates, and a
single product over all time steps follows it. For a GRU of 256 units, a batch of 128 and 28 steps, output and gradients
take 39 ms of CPU time instead of 60 in bf16 and 75 instead of 84 in fp32 (one core of a Zen 4); up to 128 units they
take about as long either way. Unrolled scans are slower: with 7 steps at a time and 128 units, 22 ms instead of 14.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.layers.mixed_precision import FACTOR, kernel_gradient

Carry = tuple[jax.Array, ...]
"""What a time step hands to the next: f32[B, H] each. The first one is the output."""

Saved = tuple[jax.Array, ...]
"""What the backward pass needs of a time step: f32[B, H] each."""


@dataclass(frozen=True)
class Cell:
    """The elementwise part of a time step, of H units."""

    n_gates: int
    """The number of gates; the arrays of all gates have G = n_gates · H columns."""
    n_carried: int
    """The number of arrays in the carry."""
    forward: Callable[[jax.Array, jax.Array, Carry], tuple[Carry, Saved]]
    """Maps (the projected input f32[B, G], the product of the last output with the recurrent kernel f32[B, G], the last
    carry) to the carry and what to save."""
    backward: Callable[[Saved, Carry, Carry], tuple[jax.Array, jax.Array, Carry]]
    """Maps (saved, the last carry, the gradients of the carry) to the gradients of the projected input and of the
    product, f32[B, G] each, and of the last carry without its part through the product."""


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def recur(inputs: jax.Array, kernel: jax.Array, cell: Cell, precision: str, reverse: bool) -> jax.Array:
    """Apply a cell to a sequence, from a carry of zeros.

    Args:
        inputs: f32[T, B, G], the input of each time step after its projection, with the bias.
        kernel: f32[H, G], the recurrent kernel.
        cell: the cell.
        precision: fp32 or bf16: the dtype to which the factors of products are rounded.
        reverse: whether to go from the last time step to the first.

    Returns:
        The output of each time step, f32[T, B, H].

    """
    return _forward(inputs, kernel, cell, precision, reverse)[0]


def _forward(
    inputs: jax.Array, kernel: jax.Array, cell: Cell, precision: str, reverse: bool
) -> tuple[jax.Array, tuple[jax.Array, tuple[Carry, Saved]]]:
    factor = kernel.astype(FACTOR[precision])

    def step(carry: Carry, projected: jax.Array) -> tuple[Carry, tuple[Carry, Saved]]:
        product = jnp.dot(carry[0].astype(factor.dtype), factor, preferred_element_type=jnp.float32)
        after, saved = cell.forward(projected, product, carry)
        return after, (after, saved)

    start = (jnp.zeros((inputs.shape[1], len(kernel))),) * cell.n_carried
    _, (carries, saved) = lax.scan(step, start, inputs, reverse=reverse)
    return carries[0], (factor, (carries, saved))


def _backward(
    cell: Cell,
    _precision: str,
    reverse: bool,
    residuals: tuple[jax.Array, tuple[Carry, Saved]],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    factor, (carries, saved) = residuals
    before = jax.tree.map(partial(_delayed, reverse=reverse), carries)

    def step(of_carry: Carry, at_step: Any) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        saved, before, of_output = at_step
        of_input, of_product, of_before = cell.backward(saved, before, (of_carry[0] + of_output, *of_carry[1:]))
        of_product = of_product.astype(factor.dtype)
        through = lax.dot_general(of_product, factor, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        return (of_before[0] + through, *of_before[1:]), (of_input, of_product)

    start = jax.tree.map(lambda array: jnp.zeros_like(array[0]), carries)
    _, (of_inputs, of_products) = lax.scan(step, start, (saved, before, gradient), reverse=not reverse)
    outputs = before[0].reshape(-1, len(factor)).astype(factor.dtype)
    return of_inputs, kernel_gradient(outputs, of_products.reshape(len(outputs), -1))


recur.defvjp(_forward, _backward)


def _delayed(sequence: jax.Array, reverse: bool) -> jax.Array:
    """Return the sequence with each value one time step later, after a zero."""
    zero = jnp.zeros_like(sequence[:1])
    return jnp.concatenate([sequence[1:], zero] if reverse else [zero, sequence[:-1]])


def _gru_forward(projected: jax.Array, product: jax.Array, carry: Carry) -> tuple[Carry, Saved]:
    (hidden,) = carry
    of_reset, of_update, of_candidate = jnp.split(projected, 3, axis=1)
    to_reset, to_update, to_candidate = jnp.split(product, 3, axis=1)
    reset, update = jax.nn.sigmoid(of_reset + to_reset), jax.nn.sigmoid(of_update + to_update)
    candidate = jnp.tanh(of_candidate + reset * to_candidate)
    return (candidate + update * (hidden - candidate),), (reset, update, candidate, to_candidate)


def _gru_backward(saved: Saved, before: Carry, of_carry: Carry) -> tuple[jax.Array, jax.Array, Carry]:
    reset, update, candidate, to_candidate = saved
    (hidden,), (slope,) = before, of_carry
    of_candidate = slope * (1 - update) * (1 - candidate * candidate)
    of_update = slope * (hidden - candidate) * update * (1 - update)
    of_reset = of_candidate * to_candidate * reset * (1 - reset)
    of_input = jnp.concatenate([of_reset, of_update, of_candidate], axis=1)
    of_product = jnp.concatenate([of_reset, of_update, of_candidate * reset], axis=1)
    return of_input, of_product, (slope * update,)


def _lstm_forward(projected: jax.Array, product: jax.Array, carry: Carry) -> tuple[Carry, Saved]:
    _, memory = carry
    of_input, of_forget, of_candidate, of_output = jnp.split(projected + product, 4, axis=1)
    enter, keep = jax.nn.sigmoid(of_input), jax.nn.sigmoid(of_forget + 1)
    candidate, leave = jnp.tanh(of_candidate), jax.nn.sigmoid(of_output)
    memory = keep * memory + enter * candidate
    bounded = jnp.tanh(memory)
    return (leave * bounded, memory), (enter, keep, candidate, leave, bounded)


def _lstm_backward(saved: Saved, before: Carry, of_carry: Carry) -> tuple[jax.Array, jax.Array, Carry]:
    enter, keep, candidate, leave, bounded = saved
    (_, memory), (slope, of_memory) = before, of_carry
    of_memory = of_memory + slope * leave * (1 - bounded * bounded)
    of_gates = jnp.concatenate(
        [
            of_memory * candidate * enter * (1 - enter),
            of_memory * memory * keep * (1 - keep),
            of_memory * enter * (1 - candidate * candidate),
            slope * bounded * leave * (1 - leave),
        ],
        axis=1,
    )
    return of_gates, of_gates, (jnp.zeros_like(slope), of_memory * keep)


GRU = Cell(n_gates=3, n_carried=1, forward=_gru_forward, backward=_gru_backward)
"""Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder" (2014), with the reset gate applied after the
product as in cuDNN, so that one product serves all gates. The gates are reset, update and candidate."""

LSTM = Cell(n_gates=4, n_carried=2, forward=_lstm_forward, backward=_lstm_backward)
"""Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al. (2000), to which one
is added (Jozefowicz et al., 2015). The gates are input, forget, candidate and output."""
