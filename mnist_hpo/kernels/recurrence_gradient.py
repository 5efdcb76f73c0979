"""The backward pass of a recurrent layer through all time steps; the gradients of the kernels are left to products."""

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
from mnist_hpo.kernels.plain_recurrence import Cell, backward
from mnist_hpo.kernels.recurrence import EXAMPLES, arrange, pad_last
from mnist_hpo.kernels.recurrence_cells import gru_gradients, lstm_gradients
from mnist_hpo.kernels.recurrence_tile import ROWS, TILE_BYTES, VECTORS, plain_tile
from mnist_hpo.kernels.vectors import LANES, VECTOR_BYTES, add, load, store


def recurrence_gradient(
    gradient: jax.Array, outputs: jax.Array, saved: jax.Array, kernel: jax.Array, *, cell: Cell, reverse: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradients of the gates; see `plain_recurrence.backward`."""
    return call_kernel(
        partial(_kernel, cell=cell, reverse=reverse),
        partial(backward, cell=cell, reverse=reverse),
        gradient,
        outputs,
        saved,
        kernel,
    )


def _kernel(
    gradient: jax.Array, outputs: jax.Array, saved: jax.Array, kernel: jax.Array, *, cell: Cell, reverse: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    n_steps, n_examples, n_units = gradient.shape
    width, n_columns = (n_units + -n_units % n for n in (LANES, VECTORS * LANES))
    is_short = kernel.dtype == jnp.bfloat16
    # The columns of the transposed kernel are units, its rows are gates.
    rows = pad_last(kernel.reshape(n_units, cell.n_gates, n_units), width).reshape(n_units, -1).T
    weights = arrange(pad_last(rows, n_columns).reshape(len(rows), -1, VECTORS, LANES))
    shape = (n_steps, n_examples, cell.n_gates * width)
    has_one = cell.name == "lstm"  # The gradients of the inputs and of the products are the same.
    results = [
        jax.ShapeDtypeStruct(shape, kernel.dtype),
        jax.ShapeDtypeStruct((0,) if has_one else shape, kernel.dtype),
        jax.ShapeDtypeStruct((cell.n_gates, width), jnp.float32),
        jax.ShapeDtypeStruct((TILE_BYTES + 4 * width + 4 * cell.n_carried * EXAMPLES * n_columns,), jnp.uint8),
    ]
    dtype = "bf16" if is_short else "f32"
    target = register_kernel(f"recurrence_gradient_{cell.name}_{dtype}", _HANDLERS[cell.name, dtype])
    of_inputs, of_products, sums, _ = jax.ffi.ffi_call(target, results)(
        *(pad_last(array, width) for array in (gradient, outputs, saved)),
        weights,
        as_words((reverse, cell.n_carried, n_columns)),
    )

    def columns(gates: jax.Array) -> jax.Array:
        return gates.reshape(n_steps, n_examples, cell.n_gates, width)[..., :n_units].reshape(n_steps, n_examples, -1)

    of_inputs = columns(of_inputs)
    return of_inputs, sums[:, :n_units].reshape(-1), of_inputs if has_one else columns(of_products)


@inlined
def _pull_back(frame: int, dtype: Any, gradients: Any, carried: int) -> None:
    """Compute all time steps. If `carried` is not 0, it is the saved array, from 1, that a time step reads of the last.

    Inputs: gradient f32[T, B, H]; outputs f32[T, B, H]; saved f32[T, S, B, H]; the weights; the settings (reverse,
    n_carried, columns of the weights). Outputs: the gradients of inputs and of products, [T, B, G] each; the sums of
    the former, f32[G]; scratch memory: a tile, zeros, and the gradient of the carry. H is a multiple of 16.
    """
    gradient, outputs, saved = input_buffer(frame, 0), input_buffer(frame, 1), input_buffer(frame, 2)
    weights, settings = data(input_buffer(frame, 3)), data(input_buffer(frame, 4))
    reverse, n_carried, n_columns = load_word(settings, 0), load_word(settings, 1), load_word(settings, 2)
    of_inputs, sums = output_buffer(frame, 0), data(output_buffer(frame, 2))
    of_products = data(output_buffer(frame, 1)) if carried == 0 else data(of_inputs)
    is_short = is_bfloat16(of_inputs)
    factor_bytes = 2 if is_short else 4
    n_steps, n_examples, width = dimension(gradient, 0), dimension(gradient, 1), dimension(gradient, 2)
    n_saved, gates_bytes = dimension(saved, 1), dimension(of_inputs, 2) * factor_bytes
    row_bytes, saved_bytes = 4 * width, 4 * n_examples * width
    tile = data(output_buffer(frame, 3))
    zeros = tile + TILE_BYTES
    state = zeros + row_bytes
    state_row_bytes = 4 * n_columns
    state_bytes = EXAMPLES * state_row_bytes
    clear(zeros, width // LANES)
    clear(sums, dimension(of_inputs, 2) // LANES)
    for first in range(0, n_examples, EXAMPLES):
        n = min(EXAMPLES, n_examples - first)
        clear(state, n_carried * state_bytes // VECTOR_BYTES)
        for index in range(n_steps):
            step = index if reverse else n_steps - 1 - index
            at = step * n_examples + first
            from_saved = data(saved) + step * n_saved * saved_bytes + first * row_bytes
            before, before_bytes = zeros, 0
            if index + 1 < n_steps:
                last = step + 1 if reverse else step - 1
                before_bytes = row_bytes
                if carried == 0:
                    before = data(outputs) + (last * n_examples + first) * row_bytes
                else:
                    before = data(saved) + (last * n_saved + carried - 1) * saved_bytes + first * row_bytes
            for block in range(width // LANES):
                place = block * VECTOR_BYTES
                for row in range(n):
                    in_gates = (at + row) * gates_bytes + block * LANES * factor_bytes
                    gradients(
                        data(gradient) + (at + row) * row_bytes + place,
                        state + row * state_row_bytes + place,
                        state_bytes,
                        before + row * before_bytes + place,
                        from_saved + row * row_bytes + place,
                        saved_bytes,
                        is_short,
                        data(of_inputs) + in_gates,
                        of_products + in_gates,
                        width * factor_bytes,
                        sums + place,
                        row_bytes,
                    )
            n_vectors = gates_bytes // 4 * VECTORS
            for block in range(n_columns // (VECTORS * LANES) if index + 1 < n_steps else 0):
                for row in range(0, n, ROWS):
                    n_rows = min(ROWS, n - row)
                    products = of_products + (at + row) * gates_bytes
                    plain_tile(
                        dtype,
                        products,
                        gates_bytes,
                        gates_bytes // 4,
                        weights + block * n_vectors * VECTOR_BYTES,
                        n_rows,
                        tile,
                    )
                    for vector in range(n_rows * VECTORS):
                        i, j = row + vector // VECTORS, block * VECTORS + vector % VECTORS
                        target = state + i * state_row_bytes + j * VECTOR_BYTES
                        store(add(load(target), load(tile + vector * VECTOR_BYTES)), target)


def _gru_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _pull_back(frame, np.float32, gru_gradients, 0)
    return pointer_to(0)


def _gru_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _pull_back(frame, np.uint16, gru_gradients, 0)
    return pointer_to(0)


def _lstm_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _pull_back(frame, np.float32, lstm_gradients, 6)
    return pointer_to(0)


def _lstm_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _pull_back(frame, np.uint16, lstm_gradients, 6)
    return pointer_to(0)


_HANDLERS = {
    ("gru", "f32"): _gru_f32,
    ("gru", "bf16"): _gru_bf16,
    ("lstm", "f32"): _lstm_f32,
    ("lstm", "bf16"): _lstm_bf16,
}
