"""Transposition of a matrix in memory, which XLA's optimiser cannot fold into a matrix product.

XLA's CPU backend has its fastest routine (for bfloat16: its only one) for rows times columns. It folds a transposition
into the following product, even across `lax.optimization_barrier`, and then uses a slower routine.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from mnist_hpo.kernels.call_frame import (
    address_of,
    data,
    dimension,
    handle_registration,
    input_buffer,
    is_bfloat16,
    matrix,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled, instruction
from mnist_hpo.kernels.native import call_kernel, register_kernel

_BLOCK = 8
_INTERLEAVE_LOWER = (0, 8, 1, 9, 2, 10, 3, 11)
_INTERLEAVE_UPPER = (4, 12, 5, 13, 6, 14, 7, 15)


def transpose(x: jax.Array) -> jax.Array:
    """Return bf16[C, R] from bf16[R, C], or f32[C, R] from f32[R, C]."""
    return call_kernel(_kernel, jnp.transpose, x)


def _kernel(x: jax.Array) -> jax.Array:
    target = register_kernel("transpose", _handler)
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))(x)


def _block_transposition(n_bits: int) -> Any:
    """Return a function for compiled code that transposes a block of 8 × 8 elements in registers.

    Three rounds, each of which interleaves row i with row i + 4, exchange rows and columns.
    """
    n_bytes = n_bits // 8
    vector = ir.VectorType(ir.IntType(n_bits), _BLOCK)

    def interleave(builder: Any, first: Any, second: Any, lanes: tuple[int, ...]) -> Any:
        return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), _BLOCK), lanes))

    def row_pointer(builder: Any, start: Any, stride: Any, row: int) -> Any:
        address = builder.add(start, builder.mul(stride, ir.IntType(64)(row)))
        return builder.inttoptr(address, vector.as_pointer())

    @instruction(types.int8, types.int64, types.int64, types.int64, types.int64)
    def transpose_block(builder: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> Any:
        """Transpose the block at an address; strides are bytes from one row to the next."""
        pointers = [row_pointer(builder, source, source_stride, i) for i in range(_BLOCK)]
        rows = [builder.load(pointer, align=n_bytes) for pointer in pointers]
        for _ in range(3):
            rows = [
                interleave(builder, rows[i // 2], rows[i // 2 + 4], _INTERLEAVE_UPPER if i % 2 else _INTERLEAVE_LOWER)
                for i in range(_BLOCK)
            ]
        for i, row in enumerate(rows):
            builder.store(row, row_pointer(builder, target, target_stride, i), align=n_bytes)
        return ir.Constant(ir.IntType(8), 0)

    return transpose_block


_transpose_block_of_16_bits = _block_transposition(16)
transpose_block_of_32_bits = _block_transposition(32)


@compiled
def _transpose_edges(original: NDArray[Any], transposed: NDArray[Any]) -> None:
    """Transpose the last rows and columns, which no block covers."""
    n_rows, n_columns = original.shape
    end_row, end_column = n_rows // _BLOCK * _BLOCK, n_columns // _BLOCK * _BLOCK
    for row in range(end_row):
        for column in range(end_column, n_columns):
            transposed[column, row] = original[row, column]
    for row in range(end_row, n_rows):
        for column in range(n_columns):
            transposed[column, row] = original[row, column]


def _handler(call: Any) -> Any:
    """Input: [R, C] of bf16 or f32. Output: [C, R]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    n_rows, n_columns = dimension(input_buffer(frame, 0), 0), dimension(input_buffer(frame, 0), 1)
    source, target = data(input_buffer(frame, 0)), data(output_buffer(frame, 0))
    is_short = is_bfloat16(input_buffer(frame, 0))
    n_bytes = 2 if is_short else 4
    source_stride, target_stride = n_columns * n_bytes, n_rows * n_bytes
    # Write eight rows of the result at a time, from left to right.
    for column in range(0, n_columns // _BLOCK * _BLOCK, _BLOCK):
        for row in range(0, n_rows // _BLOCK * _BLOCK, _BLOCK):
            from_block = source + row * source_stride + column * n_bytes
            to_block = target + column * target_stride + row * n_bytes
            if is_short:
                _transpose_block_of_16_bits(from_block, source_stride, to_block, target_stride)
            else:
                transpose_block_of_32_bits(from_block, source_stride, to_block, target_stride)
    if is_short:
        _transpose_edges(matrix(source, n_rows, n_columns, np.uint16), matrix(target, n_columns, n_rows, np.uint16))
    else:
        _transpose_edges(matrix(source, n_rows, n_columns, np.uint32), matrix(target, n_columns, n_rows, np.uint32))
    return pointer_to(0)
