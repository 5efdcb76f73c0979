"""Gather a batch's images by row number and scale them. XLA's gather copies byte by byte."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from mnist_hpo.kernels.arithmetic import bfloat16_bits
from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    dimension,
    handle_registration,
    input_buffer,
    is_bfloat16,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled, instruction
from mnist_hpo.kernels.native import call_kernel, register_kernel

SCALE = np.float32(1 / 255)
"""Scales a byte to a number from 0 to 1."""
_ROWS_AHEAD = 8
"""A row is prefetched this many rows ahead: rows come in random order, which no CPU can predict."""
_CACHE_LINE_BYTES = 64


def gather_pixels(images: jax.Array, rows: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return f32[B, F] or bf16[B, F]: the rows i32[B] of the images u8[E, F], each byte times `SCALE`.

    The row numbers are not checked: they must be from 0 to E - 1.
    """
    return call_kernel(partial(_kernel, dtype), partial(_reference, dtype), images, rows)


def _kernel(dtype: DTypeLike, images: jax.Array, rows: jax.Array) -> jax.Array:
    shape = jax.ShapeDtypeStruct((rows.shape[0], images.shape[1]), dtype)
    return jax.ffi.ffi_call(register_kernel("gather_pixels", _handler), shape)(images, rows)


def _reference(dtype: DTypeLike, images: jax.Array, rows: jax.Array) -> jax.Array:
    return (images[rows].astype(jnp.float32) * SCALE).astype(dtype)


@instruction(types.int8, types.int64)
def _prefetch(builder: Any, address: Any) -> Any:
    """Prefetch the cache line at an address."""
    pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
    function = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
    read, keep_in_all_caches, is_data = integer(0), integer(3), integer(1)
    builder.call(function, [builder.inttoptr(address, pointer), read, keep_in_all_caches, is_data])
    return ir.Constant(ir.IntType(8), 0)


@compiled
def _scale_to_float32(pixels: NDArray[np.uint8], numbers: NDArray[np.float32]) -> None:
    for i in range(pixels.shape[0]):
        numbers[i] = np.float32(pixels[i]) * SCALE


@compiled
def _scale_to_bfloat16(pixels: NDArray[np.uint8], numbers: NDArray[np.uint16]) -> None:
    for i in range(pixels.shape[0]):
        numbers[i] = bfloat16_bits(np.float32(pixels[i]) * SCALE)


def _handler(call: Any) -> Any:
    """Inputs: images u8[E, F], rows i32[B]. Output: f32[B, F] or bf16[B, F]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    output = output_buffer(frame, 0)
    n_rows, n_features = dimension(output, 0), dimension(output, 1)
    images, numbers = data(input_buffer(frame, 0)), data(output)
    rows = array(data(input_buffer(frame, 1)), n_rows, np.int32)
    for i in range(n_rows):
        soon = images + np.int64(rows[min(i + _ROWS_AHEAD, n_rows - 1)]) * n_features
        for start in range(0, n_features, _CACHE_LINE_BYTES):
            _prefetch(soon + start)
        pixels = array(images + np.int64(rows[i]) * n_features, n_features, np.uint8)
        if is_bfloat16(output):
            _scale_to_bfloat16(pixels, array(numbers + 2 * i * n_features, n_features, np.uint16))
        else:
            _scale_to_float32(pixels, array(numbers + 4 * i * n_features, n_features, np.float32))
    return pointer_to(0)
