"""Convolution of blocked images: one kernel for the results and, with the weights transposed, for input gradients.

XLA's CPU backend is slow at convolutions with few channels, and has no bfloat16 routine. Here the weights of 8 output
channels at a time are broadcast, each row of the input is padded and copied once to a cache-sized ring of as many rows
as the kernel has, and sums stay in registers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mnist_hpo.kernels.arithmetic import bfloat16_bits
from mnist_hpo.kernels.blocked_images import EXAMPLES, block_shape, images_of, to_blocks
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
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.convolution_tiles import (
    CHANNELS,
    NARROW_PIXELS,
    PIXELS,
    convolve_narrow_tile,
    convolve_wide_tile,
)
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.vectors import (
    VECTOR_BYTES,
    add,
    load,
    load_words,
    lower_halves,
    splat,
    splat_word,
    store,
    store_words,
    sum_of_lanes,
    upper_halves,
)

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, and columns left and right, of zeros around an image; negative numbers crop it."""

_NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding, *, transposed: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Convolve blocked images.

    Args:
        x: blocks of float32 or bfloat16 with I channels. The weights are rounded to the same dtype; sums are float32.
        kernel: f32[h, w, I, O].
        padding: around the images.
        transposed: whether the kernel is f32[h, w, O, I], to be flipped in both directions: for input gradients.

    Returns:
        The results, blocks of float32 with O channels, and f32[2, O], the sums of the results and of their squares over
        all examples and pixels.

    """
    return call_kernel(
        partial(_kernel, padding=padding, transposed=transposed),
        partial(_reference, padding=padding, transposed=transposed),
        x,
        kernel,
    )


def outer_padding(kernel_size: tuple[int, int], padding: Padding) -> Padding:
    """Return the padding of the convolution that gives the input's gradient, from that of the convolution itself."""
    (top, bottom), (left, right) = padding
    height, width = kernel_size
    return (height - 1 - top, height - 1 - bottom), (width - 1 - left, width - 1 - right)


def _reference(x: jax.Array, kernel: jax.Array, padding: Padding, transposed: bool) -> tuple[jax.Array, jax.Array]:
    if transposed:
        kernel = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    if x.dtype == jnp.bfloat16:
        kernel = lax.reduce_precision(kernel, exponent_bits=8, mantissa_bits=7)
    y = lax.conv_general_dilated(images_of(x), kernel, (1, 1), padding, dimension_numbers=_NHWC)
    return to_blocks(y, jnp.float32), jnp.stack([y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))])


def _kernel(x: jax.Array, kernel: jax.Array, padding: Padding, transposed: bool) -> tuple[jax.Array, jax.Array]:
    (top, bottom), (left, right) = padding
    n_blocks, in_height, in_width, n_in, *_ = x.shape
    height, width = kernel.shape[:2]
    n_out = kernel.shape[2 if transposed else 3]
    row = in_width + left + right
    vectors = n_in if x.dtype == jnp.float32 else -(-n_in // 2)
    n_padded = -(-n_out // CHANNELS) * CHANNELS
    rings = (2 * height * row + 1) * vectors  # A narrow tile may read one pixel more.
    scratch = VECTOR_BYTES * (2 * n_padded + rings) + 4 * n_padded * height * width * vectors
    image = in_height + top + bottom - height + 1, row - width + 1, n_out
    outputs = [
        jax.ShapeDtypeStruct(block_shape(n_blocks * EXAMPLES, image, jnp.float32), jnp.float32),
        jax.ShapeDtypeStruct((2, n_out), jnp.float32),
        jax.ShapeDtypeStruct((scratch,), jnp.uint8),
    ]
    settings = np.array([top, left, transposed], np.int32)
    is_short = x.dtype == jnp.bfloat16
    target = register_kernel("convolve_bf16", _handler_bf16) if is_short else register_kernel("convolve_f32", _handler_f32)
    y, moments, _ = jax.ffi.ffi_call(target, outputs)(x, kernel, settings)
    return y, moments


@compiled
def _arrange_weights(
    kernel: int, height: int, width: int, n_in: int, n_out: int, transposed: bool, is_short: bool, weights: int
) -> None:
    """Write the weights in the order in which tiles read them: [output block, row, column, input, CHANNELS].

    For bfloat16, each number is a pair of rounded weights, of two inputs; a missing one is zero.
    """
    source = array(kernel, height * width * n_in * n_out, np.float32)
    n_terms = (n_in + 1) // 2 if is_short else n_in
    n_padded = (n_out + CHANNELS - 1) // CHANNELS * CHANNELS
    numbers = array(weights, n_padded * height * width * n_terms, np.float32)
    pairs = array(weights, 2 * n_padded * height * width * n_terms, np.uint16)
    in_stride, out_stride = (1, n_in) if transposed else (n_out, 1)
    place = 0
    for block in range(0, n_padded, CHANNELS):
        for at in range(height * width):
            tap = (height * width - 1 - at if transposed else at) * n_in * n_out
            for term in range(n_terms):
                for channel in range(block, block + CHANNELS):
                    exists = channel < n_out
                    if is_short:
                        for half in range(2):
                            index = tap + (2 * term + half) * in_stride + channel * out_stride
                            number = source[index] if exists and 2 * term + half < n_in else np.float32(0)
                            pairs[2 * place + half] = bfloat16_bits(number)
                    else:
                        index = tap + term * in_stride + channel * out_stride
                        numbers[place] = source[index] if exists else np.float32(0)
                    place += 1


@compiled
def clear(address: int, n_vectors: int) -> None:
    """Write vectors of zeros."""
    for i in range(n_vectors):
        store(splat(np.float32(0)), address + i * VECTOR_BYTES)


@compiled
def _copy_pixels(source: int, n_pixels: int, n_channels: int, is_short: bool, even: int, odd: int) -> None:
    """Copy pixels of a block: those of the examples with even and with odd numbers go to different places.

    For bfloat16, a lane of the copy holds two channels of an example.
    """
    if not is_short:
        for i in range(n_pixels * n_channels):
            store(load(source + 2 * VECTOR_BYTES * i), even + VECTOR_BYTES * i)
            store(load(source + 2 * VECTOR_BYTES * i + VECTOR_BYTES), odd + VECTOR_BYTES * i)
        return
    n_terms = (n_channels + 1) // 2
    for pixel in range(n_pixels):
        for term in range(n_terms):
            place = source + VECTOR_BYTES * (pixel * n_channels + 2 * term)
            offset = VECTOR_BYTES * (pixel * n_terms + term)
            first = load_words(place)
            second = load_words(place + VECTOR_BYTES) if 2 * term + 1 < n_channels else splat_word(np.uint32(0))
            store_words(lower_halves(first, second), even + offset)
            store_words(upper_halves(first, second), odd + offset)


@compiled
def _tile_of(n_pixels: int) -> int:
    """Return how many pixels of a row's remaining ones the next tile has: as many as possible, but not all but one."""
    if n_pixels < PIXELS:
        return n_pixels
    return NARROW_PIXELS if n_pixels == PIXELS + 1 and PIXELS > NARROW_PIXELS else PIXELS


@compiled
def add_lanes(moments: int, n_out: int, results: int) -> None:
    """Sum the lanes of [n_out, 2] vectors to f32[2, n_out]."""
    numbers = array(results, 2 * n_out, np.float32)
    for channel in range(n_out):
        for power in range(2):
            numbers[power * n_out + channel] = sum_of_lanes(load(moments + (2 * channel + power) * VECTOR_BYTES))


@compiled
def _convolve_row(
    ring: int,
    slot_bytes: int,
    first_slot: int,
    n_slots: int,
    n_pixels: int,
    pixel_bytes: int,
    n_terms: int,
    weights: int,
    target: int,
    n_out: int,
    moments: int,
    dtype: Any,
) -> None:
    """Write a row of results of the examples with even or with odd numbers."""
    out_bytes = n_out * 2 * VECTOR_BYTES
    for channel in range(0, n_out, CHANNELS):
        at = weights + 4 * n_slots * n_terms * channel
        places = target + channel * 2 * VECTOR_BYTES
        totals = moments + channel * 2 * VECTOR_BYTES
        n_channels = min(CHANNELS, n_out - channel)
        pixel = 0
        while pixel < n_pixels:
            n = _tile_of(n_pixels - pixel)
            x, y = pixel * pixel_bytes, places + pixel * out_bytes
            if n == PIXELS:
                convolve_wide_tile(
                    dtype, ring, slot_bytes, first_slot, n_slots, x, pixel_bytes, n_terms, at, y, out_bytes, n_channels, totals
                )
            else:
                convolve_narrow_tile(
                    dtype, ring, slot_bytes, first_slot, n_slots, x, pixel_bytes, n_terms, at, y, out_bytes, n_channels, totals, n
                )
            pixel += n


@compiled
def _convolve(frame: int, dtype: Any) -> None:
    """Inputs: x, the kernel, i32[3] (top, left, transposed). Outputs: y, f32[2, O], and room for copies."""
    x, kernel, y = input_buffer(frame, 0), input_buffer(frame, 1), output_buffer(frame, 0)
    settings = array(data(input_buffer(frame, 2)), 3, np.int32)
    top, left, transposed = np.int64(settings[0]), np.int64(settings[1]), settings[2] != 0
    is_short = is_bfloat16(x)
    n_blocks, in_height, in_width, n_in = dimension(x, 0), dimension(x, 1), dimension(x, 2), dimension(x, 3)
    n_slots, width = dimension(kernel, 0), dimension(kernel, 1)
    out_height, out_width, n_out = dimension(y, 1), dimension(y, 2), dimension(y, 3)
    n_padded = (n_out + CHANNELS - 1) // CHANNELS * CHANNELS
    n_terms = (n_in + 1) // 2 if is_short else n_in
    row = out_width + width - 1
    pixel_bytes = n_terms * VECTOR_BYTES
    slot_bytes = row * pixel_bytes

    moments = data(output_buffer(frame, 2))
    rings = moments + 2 * n_padded * VECTOR_BYTES
    weights = rings + 2 * n_slots * slot_bytes + pixel_bytes
    _arrange_weights(data(kernel), n_slots, width, n_in, n_out, transposed, is_short, weights)
    clear(moments, 2 * n_padded)
    in_row_bytes = in_width * n_in * VECTOR_BYTES * (1 if is_short else 2)
    first_pixel, last_pixel = min(max(left, 0), row), max(min(left + in_width, row), 0)
    n_pixels = max(last_pixel - first_pixel, 0)
    for block in range(n_blocks):
        clear(rings, 2 * n_slots * row * n_terms)
        for bottom in range(out_height + n_slots - 1):
            slot, in_row = bottom % n_slots, bottom - top
            even = rings + slot * slot_bytes
            if 0 <= in_row < in_height:
                source = data(x) + (block * in_height + in_row) * in_row_bytes
                source += (first_pixel - left) * (in_row_bytes // in_width)
                at = first_pixel * pixel_bytes
                _copy_pixels(source, n_pixels, n_in, is_short, even + at, even + n_slots * slot_bytes + at)
            else:
                clear(even, row * n_terms)
                clear(even + n_slots * slot_bytes, row * n_terms)
            out_row = bottom - n_slots + 1
            if out_row >= 0:
                for parity in range(2):
                    _convolve_row(
                        rings + parity * n_slots * slot_bytes,
                        slot_bytes,
                        out_row % n_slots,
                        n_slots,
                        out_width,
                        pixel_bytes,
                        width * n_terms,
                        weights,
                        data(y) + ((block * out_height + out_row) * out_width * n_out * 2 + parity) * VECTOR_BYTES,
                        n_out,
                        moments,
                        dtype,
                    )
    add_lanes(moments, n_out, data(output_buffer(frame, 1)))


def _handler_f32(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _convolve(frame, np.float32)
    return pointer_to(0)


def _handler_bf16(call: Any) -> Any:
    frame = address_of(call)
    if not handle_registration(frame):
        _convolve(frame, np.uint16)
    return pointer_to(0)
