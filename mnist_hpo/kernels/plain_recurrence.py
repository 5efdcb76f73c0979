"""The recurrent layers' time steps in pure JAX: the references of the kernels.

The gradients are written out. Those that JAX derives from a scan compute the gradient of the recurrent kernel in each
time step, as a product over the batch alone. Here the backward scan only stores the gradients of the gates, so that a
single product over all time steps can follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Carry = tuple[jax.Array, ...]
"""What a time step hands to the next: f32[B, H] each. The first one is the output."""

Saved = tuple[jax.Array, ...]
"""What the backward pass needs of a time step: f32[B, H] each."""


@dataclass(frozen=True)
class Cell:
    """The elementwise part of a time step, of H units."""

    name: str
    n_gates: int
    """The number of gates; the arrays of all gates have G = n_gates · H columns."""
    n_carried: int
    """The number of arrays in the carry."""
    n_saved: int
    """The number of saved arrays."""
    forward: Callable[[jax.Array, jax.Array, Carry], tuple[Carry, Saved]]
    """Maps (the projected input f32[B, G], the product of the last output with the recurrent kernel f32[B, G], the last
    carry) to the carry and what to save. The arrays of the carry after the output are the last ones saved."""
    backward: Callable[[Saved, Carry, Carry], tuple[jax.Array, jax.Array, Carry]]
    """Maps (saved, the last carry, the gradients of the carry) to the gradients of the projected input and of the
    product, f32[B, G] each, and of the last carry without its part through the product."""


def forward(
    x: jax.Array, input_kernel: jax.Array, offset: jax.Array, kernel: jax.Array, *, cell: Cell, reverse: bool
) -> tuple[jax.Array, jax.Array]:
    """Apply a cell to a sequence, from a carry of zeros.

    Args:
        x: f32 or bf16[T, B, I].
        input_kernel: [I, G], of the dtype of x.
        offset: f32[1, 1, G] or f32[T, B, G], which is added to the projected input.
        kernel: [H, G], the recurrent kernel, of the dtype of x.
        cell: the cell.
        reverse: whether to go from the last time step to the first.

    Returns:
        The outputs, f32[T, B, H], and what the cell saves, f32[T, S, B, H].

    """
    projected = jnp.dot(x, input_kernel, preferred_element_type=jnp.float32) + offset

    def step(carry: Carry, projected: jax.Array) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        product = jnp.dot(carry[0].astype(x.dtype), kernel, preferred_element_type=jnp.float32)
        after, saved = cell.forward(projected, product, carry)
        return after, (after[0], jnp.stack(saved))

    start = (jnp.zeros((x.shape[1], len(kernel))),) * cell.n_carried
    # The sequence is turned around instead of the scan, because the conversion to ONNX supports only forward scans.
    _, found = lax.scan(step, start, _turned(projected, reverse))
    outputs, saved = (_turned(array, reverse) for array in found)
    return outputs, saved


def _turned(sequence: jax.Array, reverse: bool) -> jax.Array:
    return sequence[::-1] if reverse else sequence


def backward(
    gradient: jax.Array,
    outputs: jax.Array,
    saved: jax.Array,
    kernel: jax.Array,
    *,
    cell: Cell,
    reverse: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradients of the gates.

    Args:
        gradient: f32[T, B, H], of the outputs.
        outputs: see `forward`.
        saved: see `forward`.
        kernel: as for `forward`.
        cell: as for `forward`.
        reverse: as for `forward`.

    Returns:
        The gradient of the projected input, [T, B, G] of the kernel's dtype; its sum over T and B before it is rounded,
        f32[G]; and the gradient of the product with the recurrent kernel, [T, B, G] of the kernel's dtype.

    """
    carried = outputs, *(saved[:, cell.n_saved - number] for number in range(cell.n_carried - 1, 0, -1))
    before = tuple(delayed(array, reverse) for array in carried)

    def step(of_carry: Carry, at_step: Any) -> tuple[Carry, tuple[jax.Array, jax.Array, jax.Array]]:
        saved, before, of_output = at_step
        after = of_carry[0] + of_output, *of_carry[1:]
        of_input, of_product, of_before = cell.backward(tuple(saved), before, after)
        rounded = of_product.astype(kernel.dtype)
        through = lax.dot_general(rounded, kernel, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        return (of_before[0] + through, *of_before[1:]), (of_input.astype(kernel.dtype), of_input.sum(0), rounded)

    start = (jnp.zeros_like(outputs[0]),) * cell.n_carried
    _, (of_inputs, sums, of_products) = lax.scan(step, start, (saved, before, gradient), reverse=not reverse)
    return of_inputs, sums.sum(0), of_products


def delayed(sequence: jax.Array, reverse: bool) -> jax.Array:
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
    return (leave * bounded, memory), (enter, keep, candidate, leave, bounded, memory)


def _lstm_backward(saved: Saved, before: Carry, of_carry: Carry) -> tuple[jax.Array, jax.Array, Carry]:
    enter, keep, candidate, leave, bounded, _ = saved
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


GRU = Cell("gru", n_gates=3, n_carried=1, n_saved=4, forward=_gru_forward, backward=_gru_backward)
"""Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder" (2014), with the reset gate applied after the
product as in cuDNN, so that one product serves all gates. The gates are reset, update and candidate."""

LSTM = Cell("lstm", n_gates=4, n_carried=2, n_saved=6, forward=_lstm_forward, backward=_lstm_backward)
"""Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al. (2000), to which one
is added (Jozefowicz et al., 2015). The gates are input, forget, candidate and output."""
