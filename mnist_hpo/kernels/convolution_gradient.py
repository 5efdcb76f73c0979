"""The gradient of a convolution's kernel, from blocked images.

Each number of the gradient is a sum over pixels and examples. A tile of such sums stays in registers while a band of
rows of pixels, which fits into the cache, is read; lanes sum over different examples and are added at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mnist_hpo.kernels.blocked_images import images_of
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
from mnist_hpo.kernels.compiled import compiled, inlined
from mnist_hpo.kernels.convolution_tiles import CHANNELS, KERNEL_ROWS, gradient_tile
from mnist_hpo.kernels.convolve import Padding, clear
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.vectors import VECTOR_BYTES, load, load_words, store, store_words, sum_of_lanes

_BAND_BYTES = 160 * 1024
"""Bytes of the input and of the gradient that are read at a time, a part of the L2 cache."""
_SUMS_BYTES = 4 * 1024**2
"""The most bytes of sums at a time, unless those of CHANNELS output channels have more."""


def convolution_gradient(
    x: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], padding: Padding
) -> jax.Array:
    """Return the gradient of a loss with respect to a kernel.

    Args:
        x: the convolution's input, blocks of float32 or bfloat16 with I channels.
        gradient: the loss's gradient with respect to the convolution's result, blocks of the same dtype, O channels.
        kernel_size: the kernel's height h and width w.
        padding: the convolution's.

    Returns:
        f32[h, w, I, O].

    """
    return call_kernel(
        partial(_kernel, kernel_size=kernel_size, padding=padding), partial(_reference, padding=padding), x, gradient
    )


def _reference(x: jax.Array, gradient: jax.Array, padding: Padding) -> jax.Array:
    # Convolve each channel of the input with the gradient, with the examples as channels.
    images, slopes = images_of(x).transpose(3, 1, 2, 0), images_of(gradient).transpose(1, 2, 0, 3)
    found = lax.conv_general_dilated(images, slopes, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return found.transpose(1, 2, 0, 3)


def _kernel(x: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], padding: Padding) -> jax.Array:
    (top, _), (left, _) = padding
    height, width = kernel_size
    _, out_height, out_width, n_out, *_ = gradient.shape
    n_in = x.shape[3]
    n_tile_rows = -(-width * n_in // KERNEL_ROWS) * KERNEL_ROWS
    channel_bytes = VECTOR_BYTES * height * n_tile_rows
    chunk = min(max(_SUMS_BYTES // (channel_bytes * CHANNELS), 1), -(-n_out // CHANNELS)) * CHANNELS
    in_row, out_row = (out_width + width - 1) * n_in, out_width * chunk
    n_rows = min(max(_BAND_BYTES // (VECTOR_BYTES * (in_row + out_row)), 1), out_height)
    vectors = (n_rows + height - 1) * in_row + KERNEL_ROWS + n_rows * out_row
    outputs = [
        jax.ShapeDtypeStruct((*kernel_size, n_in, n_out), jnp.float32),
        jax.ShapeDtypeStruct((channel_bytes * chunk + VECTOR_BYTES * vectors,), jnp.uint8),
    ]
    settings = np.array([top, left, n_rows, chunk], np.int32)
    if x.dtype == jnp.bfloat16:
        target = register_kernel("convolution_gradient_bf16", _handler_bf16)
    else:
        target = register_kernel("convolution_gradient_f32", _handler_f32)
    return jax.ffi.ffi_call(target, outputs)(x, gradient, settings)[0]


@compiled
def _copy(source: int, n_vectors: int, is_short: bool, parity: int, target: int) -> None:
    """Copy vectors of a block; for float32, those of the examples with even (parity 0) or odd numbers."""
    if is_short:
        for i in range(n_vectors):
            store_words(load_words(source + VECTOR_BYTES * i), target + VECTOR_BYTES * i)
    else:
        for i in range(n_vectors):
            store(load(source + VECTOR_BYTES * (2 * i + parity)), target + VECTOR_BYTES * i)


@inlined
def _add_band(
    x: int,
    x_row_bytes: int,
    x_pixel_bytes: int,
    gradient: int,
    n_padded: int,
    n_rows: int,
    n_pixels: int,
    height: int,
    n_kernel_rows: int,
    dtype: Any,
    sums: int,
) -> None:
    """Add the products of a band of rows to all sums."""
    pixel_bytes = n_padded * VECTOR_BYTES
    row_bytes = n_pixels * pixel_bytes
    for row in range(height):
        for start in range(0, n_kernel_rows, KERNEL_ROWS):
            at = x + row * x_row_bytes + start * VECTOR_BYTES
            for channel in range(0, n_padded, CHANNELS):
                slopes = gradient + channel * VECTOR_BYTES
                gradient_tile(
                    dtype, at, x_row_bytes, x_pixel_bytes, slopes, row_bytes, pixel_bytes, n_rows, n_pixels, sums
                )
                sums += KERNEL_ROWS * CHANNELS * VECTOR_BYTES


@inlined
def _write_sums(sums: int, height: int, n_kernel_rows: int, n_padded: int, n_channels: int, n_out: int, result: int) -> None:
    """Sum the lanes to some output channels of f32[height, n_kernel_rows, n_out]."""
    numbers = array(result, ((height * n_kernel_rows - 1) * n_out) + n_channels, np.float32)
    for row in range(height):
        for start in range(0, n_kernel_rows, KERNEL_ROWS):
            for first in range(0, n_padded, CHANNELS):
                for kernel_row in range(start, start + KERNEL_ROWS):
                    for channel in range(first, first + CHANNELS):
                        if kernel_row < n_kernel_rows and channel < n_channels:
                            place = (row * n_kernel_rows + kernel_row) * n_out + channel
                            numbers[place] = sum_of_lanes(load(sums))
                        sums += VECTOR_BYTES


@inlined
def _sum(frame: int, dtype: Any) -> None:
    """Sum a chunk of output channels at a time.

    Inputs: x, gradient, i32[4] (top, left, rows of a band, output channels of a chunk). Outputs: f32[h, w, I, O], and
    room for sums and copies.
    """
    x, gradient, result = input_buffer(frame, 0), input_buffer(frame, 1), output_buffer(frame, 0)
    settings = array(data(input_buffer(frame, 2)), 4, np.int32)
    top, left, band, chunk = np.int64(settings[0]), np.int64(settings[1]), np.int64(settings[2]), np.int64(settings[3])
    is_short = is_bfloat16(x)
    n_blocks, in_height, in_width, n_in = dimension(x, 0), dimension(x, 1), dimension(x, 2), dimension(x, 3)
    out_height, out_width, n_out = dimension(gradient, 1), dimension(gradient, 2), dimension(gradient, 3)
    height, width = dimension(result, 0), dimension(result, 1)
    n_kernel_rows = width * n_in
    n_tile_rows = (n_kernel_rows + KERNEL_ROWS - 1) // KERNEL_ROWS * KERNEL_ROWS
    row = out_width + width - 1

    sums = data(output_buffer(frame, 1))
    x_band = sums + height * n_tile_rows * chunk * VECTOR_BYTES
    x_row_bytes = row * n_in * VECTOR_BYTES
    gradient_band = x_band + (band + height - 1) * x_row_bytes + KERNEL_ROWS * VECTOR_BYTES

    n_vectors = 1 if is_short else 2
    first_pixel, last_pixel = min(max(left, 0), row), max(min(left + in_width, row), 0)
    n_copied = max(last_pixel - first_pixel, 0) * n_in
    for first_channel in range(0, n_out, chunk):
        n_channels = min(chunk, n_out - first_channel)
        n_padded = (n_channels + CHANNELS - 1) // CHANNELS * CHANNELS
        clear(sums, (gradient_band - sums) // VECTOR_BYTES + band * out_width * n_padded)
        for block in range(n_blocks):
            for first_row in range(0, out_height, band):
                n_rows = min(band, out_height - first_row)
                for parity in range(n_vectors):
                    for i in range(n_rows + height - 1):
                        in_row = first_row + i - top
                        target = x_band + i * x_row_bytes
                        if 0 <= in_row < in_height:
                            pixel = ((block * in_height + in_row) * in_width + first_pixel - left) * n_in
                            source = data(x) + pixel * n_vectors * VECTOR_BYTES
                            _copy(source, n_copied, is_short, parity, target + first_pixel * n_in * VECTOR_BYTES)
                        else:
                            clear(target, row * n_in)
                    source = (block * out_height + first_row) * out_width * n_out + first_channel
                    for pixel in range(n_rows * out_width):
                        _copy(
                            data(gradient) + (source + pixel * n_out) * n_vectors * VECTOR_BYTES,
                            n_channels,
                            is_short,
                            parity,
                            gradient_band + pixel * n_padded * VECTOR_BYTES,
                        )
                    _add_band(
                        x_band,
                        x_row_bytes,
                        n_in * VECTOR_BYTES,
                        gradient_band,
                        n_padded,
                        n_rows,
                        out_width,
                        height,
                        n_kernel_rows,
                        dtype,
                        sums,
                    )
        place = data(result) + 4 * first_channel
        _write_sums(sums, height, n_kernel_rows, n_padded, n_channels, n_out, place)


def _handler_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _sum(frame, np.float32)
    return pointer_to(0)


def _handler_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _sum(frame, np.uint16)
    return pointer_to(0)
