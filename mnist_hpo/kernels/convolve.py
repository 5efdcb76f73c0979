"""Convolution of blocked images. With transposed weights, the same kernel computes the gradient of the input.

XLA's CPU backend is slow at convolutions with few channels, and has no bfloat16 routine. Here each input row is padded
and copied once to a ring buffer, which has as many rows as the kernel and fits into the cache. Weights are broadcast,
and the sums of 8 output channels stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

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
    handle_registration,
    input_buffer,
    is_bfloat16,
    load_word,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled, inlined
from mnist_hpo.kernels.convolution_tiles import (
    CHANNELS,
    NARROW_PIXELS,
    PIXELS,
    convolve_narrow_tile,
    convolve_wide_tile,
)
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.plain_convolution import Padding, convolve_images, outer_kernel
from mnist_hpo.kernels.vectors import (
    VECTOR_BYTES,
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


class _Settings(NamedTuple):
    """The settings that the handler reads, in this order."""

    n_blocks: int
    n_slots: int
    """The kernel's height, which is the number of rows of a ring buffer."""
    n_in: int
    n_terms: int
    """Vectors of an input pixel in a ring buffer."""
    n_out: int
    row_vectors: int
    """Vectors of a padded row in a ring buffer."""
    tap_terms: int
    """Consecutive vectors of a row that each result sums."""
    n_taps: int
    transposed: int
    top: int
    in_height: int
    in_row_bytes: int
    copied_from: int
    """Bytes from the start of an input row to the first pixel that is copied."""
    copied_to: int
    """Bytes from the start of a ring buffer's row to that pixel."""
    n_copied: int
    """Pixels of an input row that are copied."""
    out_height: int
    out_width: int
    weights: int
    """Bytes from the start of the scratch memory to the weights."""


_AT = _Settings(*range(len(_Settings._fields)))
"""The index of each setting, a constant in compiled functions."""


def as_words(settings: Sequence[int]) -> Any:
    """Return 64-bit integers as int32 pairs, for `load_word`: JAX would convert int64 to int32."""
    return np.array(settings, np.int64).view(np.int32)


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding, *, transposed: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Convolve blocked images.

    Args:
        x: blocks of float32 or bfloat16 with I channels. The weights are rounded to the same dtype; sums are float32.
        kernel: f32[h, w, I, O].
        padding: around the images.
        transposed: whether the kernel is f32[h, w, O, I] and is flipped in both directions, as for input gradients.

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


def _reference(x: jax.Array, kernel: jax.Array, padding: Padding, transposed: bool) -> tuple[jax.Array, jax.Array]:
    if transposed:
        kernel = outer_kernel(kernel)
    if x.dtype == jnp.bfloat16:
        kernel = lax.reduce_precision(kernel, exponent_bits=8, mantissa_bits=7)
    y = convolve_images(images_of(x), kernel, padding)
    return to_blocks(y, jnp.float32), jnp.stack([y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))])


def _kernel(x: jax.Array, kernel: jax.Array, padding: Padding, transposed: bool) -> tuple[jax.Array, jax.Array]:
    (top, bottom), (left, right) = padding
    n_blocks, in_height, in_width, n_in, *_ = x.shape
    height, width = kernel.shape[:2]
    n_out = kernel.shape[2 if transposed else 3]
    is_short = x.dtype == jnp.bfloat16
    row = in_width + left + right
    n_terms = -(-n_in // 2) if is_short else n_in
    n_padded = -(-n_out // CHANNELS) * CHANNELS
    image = in_height + top + bottom - height + 1, row - width + 1, n_out
    in_pixel_bytes = n_in * VECTOR_BYTES * (1 if is_short else 2)
    first_pixel, last_pixel = min(max(left, 0), row), max(min(left + in_width, row), 0)
    moments_bytes = 2 * n_padded * VECTOR_BYTES
    ring_bytes = height * row * n_terms * VECTOR_BYTES
    settings = _Settings(
        n_blocks=n_blocks,
        n_slots=height,
        n_in=n_in,
        n_terms=n_terms,
        n_out=n_out,
        row_vectors=row * n_terms,
        tap_terms=width * n_terms,
        n_taps=height * width,
        transposed=transposed,
        top=top,
        in_height=in_height,
        in_row_bytes=in_width * in_pixel_bytes,
        copied_from=(first_pixel - left) * in_pixel_bytes,
        copied_to=first_pixel * n_terms * VECTOR_BYTES,
        n_copied=max(last_pixel - first_pixel, 0),
        out_height=image[0],
        out_width=image[1],
        weights=moments_bytes + 2 * ring_bytes + n_terms * VECTOR_BYTES,  # A narrow tile may read one pixel more.
    )
    outputs = [
        jax.ShapeDtypeStruct(block_shape(n_blocks * EXAMPLES, image, jnp.float32), jnp.float32),
        jax.ShapeDtypeStruct((2, n_out), jnp.float32),
        jax.ShapeDtypeStruct((settings.weights + 4 * n_padded * height * width * n_terms,), jnp.uint8),
    ]
    if is_short:
        target = register_kernel("convolve_bf16", _handler_bf16)
    else:
        target = register_kernel("convolve_f32", _handler_f32)
    y, moments, _ = jax.ffi.ffi_call(target, outputs)(x, kernel, as_words(settings))
    return y, moments


@compiled
def clear(address: int, n_vectors: int) -> None:
    """Write vectors of zeros."""
    for i in range(n_vectors):
        store(splat(np.float32(0)), address + i * VECTOR_BYTES)


@inlined
def _arrange_weights(
    kernel: int, n_taps: int, n_in: int, n_terms: int, n_out: int, transposed: bool, is_short: bool, weights: int
) -> None:
    """Write the weights in the order in which tiles read them: [output block, row and column, term, CHANNELS].

    A term is an input channel or, for bfloat16, a pair of them, whose rounded weights share a word. Padding is zero.
    """
    n_numbers = (n_out + CHANNELS - 1) // CHANNELS * CHANNELS * n_taps * n_terms
    source = array(kernel, n_taps * n_in * n_out, np.float32)
    numbers, halves = array(weights, n_numbers, np.float32), array(weights, 2 * n_numbers, np.uint16)
    numbers[:] = np.float32(0)
    for tap in range(n_taps):
        first = (n_taps - 1 - tap if transposed else tap) * n_in * n_out
        for i in range(n_in):
            term = i // 2 if is_short else i
            for channel in range(n_out):
                number = source[first + (channel * n_in + i if transposed else i * n_out + channel)]
                block, at = channel // CHANNELS, channel % CHANNELS
                place = ((block * n_taps + tap) * n_terms + term) * CHANNELS + at
                if is_short:
                    halves[2 * place + i % 2] = bfloat16_bits(number)
                else:
                    numbers[place] = number


@inlined
def _copy_pixels(source: int, n_pixels: int, n_channels: int, is_short: bool, even: int, odd: int) -> None:
    """Copy a block's pixels, of the examples with even numbers to one address and of those with odd numbers to another.

    For bfloat16, each lane of the copy contains two channels of an example.
    """
    if not is_short:
        for i in range(n_pixels * n_channels):
            store(load(source + 2 * VECTOR_BYTES * i), even + VECTOR_BYTES * i)
            store(load(source + 2 * VECTOR_BYTES * i + VECTOR_BYTES), odd + VECTOR_BYTES * i)
    n_terms = (n_channels + 1) // 2
    for pixel in range(n_pixels if is_short else 0):
        for term in range(n_terms):
            place = source + VECTOR_BYTES * (pixel * n_channels + 2 * term)
            offset = VECTOR_BYTES * (pixel * n_terms + term)
            first = load_words(place)
            second = load_words(place + VECTOR_BYTES) if 2 * term + 1 < n_channels else splat_word(np.uint32(0))
            store_words(lower_halves(first, second), even + offset)
            store_words(upper_halves(first, second), odd + offset)


@compiled
def _tile_of(n_pixels: int) -> int:
    """Return the pixels of the next tile, given the remaining ones: as many as possible, without leaving one alone."""
    if n_pixels < PIXELS:
        return n_pixels
    return NARROW_PIXELS if n_pixels == PIXELS + 1 and PIXELS > NARROW_PIXELS else PIXELS


@compiled
def add_lanes(moments: int, n_out: int, results: int) -> None:
    """Write the sums of the lanes of [n_out, 2] vectors to f32[2, n_out]."""
    numbers = array(results, 2 * n_out, np.float32)
    for channel in range(n_out):
        for power in range(2):
            numbers[power * n_out + channel] = sum_of_lanes(load(moments + (2 * channel + power) * VECTOR_BYTES))


@inlined
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
    """Compute a row of results, for the examples with even or for those with odd numbers."""
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
                    dtype,
                    ring,
                    slot_bytes,
                    first_slot,
                    n_slots,
                    x,
                    pixel_bytes,
                    n_terms,
                    at,
                    y,
                    out_bytes,
                    n_channels,
                    totals,
                )
            else:
                convolve_narrow_tile(
                    dtype,
                    ring,
                    slot_bytes,
                    first_slot,
                    n_slots,
                    x,
                    pixel_bytes,
                    n_terms,
                    at,
                    y,
                    out_bytes,
                    n_channels,
                    totals,
                    n,
                )
            pixel += n


@inlined
def _convolve(frame: int, dtype: Any) -> None:
    """Inputs: x, the kernel, the settings. Outputs: y, f32[2, O], and scratch memory: moments, rings and weights."""
    x, y = data(input_buffer(frame, 0)), data(output_buffer(frame, 0))
    is_short = is_bfloat16(input_buffer(frame, 0))
    settings = data(input_buffer(frame, 2))
    moments = data(output_buffer(frame, 2))
    n_slots, n_terms, n_out = (
        load_word(settings, _AT.n_slots),
        load_word(settings, _AT.n_terms),
        load_word(settings, _AT.n_out),
    )
    row_vectors = load_word(settings, _AT.row_vectors)
    in_row_bytes, out_width = load_word(settings, _AT.in_row_bytes), load_word(settings, _AT.out_width)
    weights = moments + load_word(settings, _AT.weights)
    rings = moments + 2 * VECTOR_BYTES * ((n_out + CHANNELS - 1) // CHANNELS * CHANNELS)
    slot_bytes = row_vectors * VECTOR_BYTES
    ring_bytes = n_slots * slot_bytes
    _arrange_weights(
        data(input_buffer(frame, 1)),
        load_word(settings, _AT.n_taps),
        load_word(settings, _AT.n_in),
        n_terms,
        n_out,
        load_word(settings, _AT.transposed) != 0,
        is_short,
        weights,
    )
    clear(moments, 2 * ((n_out + CHANNELS - 1) // CHANNELS * CHANNELS))
    for _ in range(load_word(settings, _AT.n_blocks)):
        clear(rings, 2 * n_slots * row_vectors)
        slot, in_row = 0, -load_word(settings, _AT.top)
        for out_row in range(1 - n_slots, load_word(settings, _AT.out_height)):
            even = rings + slot * slot_bytes
            slot = slot + 1 if slot + 1 < n_slots else 0
            if 0 <= in_row < load_word(settings, _AT.in_height):
                at = even + load_word(settings, _AT.copied_to)
                source = x + in_row * in_row_bytes + load_word(settings, _AT.copied_from)
                _copy_pixels(
                    source,
                    load_word(settings, _AT.n_copied),
                    load_word(settings, _AT.n_in),
                    is_short,
                    at,
                    at + ring_bytes,
                )
            else:
                clear(even, row_vectors)
                clear(even + ring_bytes, row_vectors)
            in_row += 1
            if out_row >= 0:
                for parity in range(2):
                    _convolve_row(
                        rings + parity * ring_bytes,
                        slot_bytes,
                        slot,
                        n_slots,
                        out_width,
                        n_terms * VECTOR_BYTES,
                        load_word(settings, _AT.tap_terms),
                        weights,
                        y + parity * VECTOR_BYTES,
                        n_out,
                        moments,
                        dtype,
                    )
                y += out_width * n_out * 2 * VECTOR_BYTES
        x += load_word(settings, _AT.in_height) * in_row_bytes
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
