"""All time steps of a recurrent layer, with the projection of its input.

XLA's CPU backend repeats a product's preparations in each time step, and writes and reads the projected inputs and the
products of all examples, which do not fit in the cache. Here, the weights are arranged once, the sums of 16 units of a
few examples stay in registers, and the gates are computed from them at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_hpo.kernels.call_frame import (
    address_of,
    data,
    dimension,
    handle_registration,
    input_buffer,
    is_bfloat16,
    load_word,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import inlined
from mnist_hpo.kernels.convolve import as_words, clear
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.plain_recurrence import Cell, forward
from mnist_hpo.kernels.recurrence_cells import gru_units, lstm_units
from mnist_hpo.kernels.recurrence_tile import ROWS, TILE_BYTES, VECTORS, gru_tile, lstm_tile
from mnist_hpo.kernels.vectors import LANES, VECTOR_BYTES

EXAMPLES = 96
"""Examples that go through all time steps together: enough to reuse weights, few enough to stay in the L2 cache."""


def recurrence(
    x: jax.Array, input_kernel: jax.Array, offset: jax.Array, kernel: jax.Array, *, cell: Cell, reverse: bool
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs of a recurrent layer and what the backward pass needs; see `plain_recurrence.forward`."""
    return call_kernel(
        partial(_kernel, cell=cell, reverse=reverse, saves=True),
        partial(forward, cell=cell, reverse=reverse),
        x,
        input_kernel,
        offset,
        kernel,
    )


def recurrence_outputs(
    x: jax.Array, input_kernel: jax.Array, offset: jax.Array, kernel: jax.Array, *, cell: Cell, reverse: bool
) -> jax.Array:
    """Return the outputs alone."""

    def reference(*arguments: jax.Array) -> jax.Array:
        return forward(*arguments, cell=cell, reverse=reverse)[0]

    def outputs(*arguments: jax.Array) -> jax.Array:
        return _kernel(*arguments, cell=cell, reverse=reverse, saves=False)[0]

    return call_kernel(outputs, reference, x, input_kernel, offset, kernel)


def _kernel(
    x: jax.Array,
    input_kernel: jax.Array,
    offset: jax.Array,
    kernel: jax.Array,
    *,
    cell: Cell,
    reverse: bool,
    saves: bool,
) -> tuple[jax.Array, jax.Array]:
    n_steps, n_examples, n_inputs = x.shape
    n_units = len(kernel)
    width = n_units + -n_units % LANES
    dtype = "bf16" if x.dtype == jnp.bfloat16 else "f32"
    odd = n_inputs % per_word(x.dtype)
    offset = pad_last(offset.reshape(*offset.shape[:2], cell.n_gates, n_units), width)
    factor_bytes = EXAMPLES * width * x.dtype.itemsize
    scratch = TILE_BYTES + 2 * factor_bytes + cell.n_carried * EXAMPLES * width * 4
    outputs = [
        jax.ShapeDtypeStruct((n_steps, n_examples, width), jnp.float32),
        jax.ShapeDtypeStruct((n_steps, cell.n_saved if saves else 0, n_examples, width), jnp.float32),
        jax.ShapeDtypeStruct((scratch,), jnp.uint8),
    ]
    target = register_kernel(f"recurrence_{cell.name}_{dtype}", _HANDLERS[cell.name, dtype])
    found, saved, _ = jax.ffi.ffi_call(target, outputs)(
        pad_last(x, n_inputs + odd),
        arrange(_by_gate(input_kernel, cell, width)),
        offset,
        arrange(_by_gate(pad_last(kernel.T, width).T, cell, width)),
        as_words((reverse, cell.n_carried)),
    )
    return found[..., :n_units], saved[..., :n_units]


def per_word(dtype: Any) -> int:
    """Return how many factors of a dtype share a word of four bytes."""
    return 4 // dtype.itemsize


def pad_last(x: jax.Array, n: int) -> jax.Array:
    """Pad the last axis to n numbers with zeros."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - x.shape[-1])])


def _by_gate(kernel: jax.Array, cell: Cell, width: int) -> jax.Array:
    """Return a kernel [I, G] as [I, blocks of 16 units, gates, 16]."""
    padded = pad_last(kernel.reshape(len(kernel), cell.n_gates, -1), width)
    return padded.reshape(len(kernel), cell.n_gates, -1, LANES).swapaxes(1, 2)


def arrange(weights: jax.Array) -> jax.Array:
    """Arrange weights [I, J, V, 16] in the order in which tiles read them: [J, terms, V, 16].

    A term is one of I or, for bfloat16, a pair of them, whose numbers share a word: [J, I / 2, V, 16, 2].
    """
    n_shared = per_word(weights.dtype)
    n, n_blocks, n_vectors, _ = weights.shape
    weights = jnp.pad(weights, ((0, n % n_shared), (0, 0), (0, 0), (0, 0)))
    return weights.reshape(-1, n_shared, n_blocks, n_vectors, LANES).transpose(2, 0, 3, 4, 1)


@inlined
def _recur(frame: int, dtype: Any, multiply: Any, units: Any) -> None:
    """Compute all time steps.

    Inputs: x [T, B, I], with an even I for bfloat16; its weights; the offset f32[1 or T, 1 or B, gates, H]; the weights
    of the recurrent kernel; the settings (reverse, n_carried). Outputs: outputs f32[T, B, H]; saved f32[T, S, B, H];
    scratch memory: a tile, the last and the next outputs as factors, and the carry. H is a multiple of 16.
    """
    x, outputs, saved = input_buffer(frame, 0), output_buffer(frame, 0), output_buffer(frame, 1)
    offset, settings = input_buffer(frame, 2), data(input_buffer(frame, 4))
    reverse, n_carried = load_word(settings, 0), load_word(settings, 1)
    is_short = is_bfloat16(x)
    factor_bytes = 2 if is_short else 4
    n_steps, n_examples, width = dimension(outputs, 0), dimension(outputs, 1), dimension(outputs, 2)
    n_gates, n_saved, n_blocks = dimension(offset, 2), dimension(saved, 1), width // LANES
    x_bytes, hidden_bytes = dimension(x, 2) * factor_bytes, width * factor_bytes
    x_weights, hidden_weights = data(input_buffer(frame, 1)), data(input_buffer(frame, 3))
    x_block_bytes = x_bytes // 4 * n_gates * VECTOR_BYTES
    hidden_block_bytes = hidden_bytes // 4 * n_gates * VECTOR_BYTES
    offset_bytes = 4 * width * n_gates if dimension(offset, 0) * dimension(offset, 1) > 1 else 0
    products = data(output_buffer(frame, 2))
    last = products + TILE_BYTES
    following = last + EXAMPLES * hidden_bytes
    state = following + EXAMPLES * hidden_bytes
    state_bytes, saved_bytes = 4 * EXAMPLES * width, 4 * n_examples * width
    for first in range(0, n_examples, EXAMPLES):
        n = min(EXAMPLES, n_examples - first)
        clear(last, EXAMPLES * hidden_bytes // VECTOR_BYTES)
        clear(state, n_carried * state_bytes // VECTOR_BYTES)
        for index in range(n_steps):
            step = n_steps - 1 - index if reverse else index
            at = step * n_examples + first
            x_rows = data(x) + at * x_bytes
            for block in range(n_blocks):
                place = block * VECTOR_BYTES
                for row in range(0, n, ROWS):
                    n_rows = min(ROWS, n - row)
                    multiply(
                        dtype,
                        x_rows + row * x_bytes,
                        x_bytes,
                        x_bytes // 4,
                        x_weights + block * x_block_bytes,
                        last + row * hidden_bytes,
                        hidden_bytes,
                        hidden_bytes // 4,
                        hidden_weights + block * hidden_block_bytes,
                        n_rows,
                        products,
                    )
                    for i in range(row, row + n_rows):
                        in_saved = 4 * width * (step * n_saved * n_examples + first + i) + place
                        units(
                            products + (i - row) * VECTORS * VECTOR_BYTES,
                            data(offset) + (at + i) * offset_bytes + place,
                            4 * width,
                            state + 4 * width * i + place,
                            state_bytes,
                            is_short,
                            following + (i * width + block * LANES) * factor_bytes,
                            data(outputs) + 4 * width * (at + i) + place,
                            data(saved) + in_saved if n_saved > 0 else 0,
                            saved_bytes,
                        )
            last, following = following, last


def _gru_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _recur(frame, np.float32, gru_tile, gru_units)
    return pointer_to(0)


def _gru_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _recur(frame, np.uint16, gru_tile, gru_units)
    return pointer_to(0)


def _lstm_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _recur(frame, np.float32, lstm_tile, lstm_units)
    return pointer_to(0)


def _lstm_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _recur(frame, np.uint16, lstm_tile, lstm_units)
    return pointer_to(0)


_HANDLERS = {
    ("gru", "f32"): _gru_f32,
    ("gru", "bf16"): _gru_bf16,
    ("lstm", "f32"): _lstm_f32,
    ("lstm", "bf16"): _lstm_bf16,
}
