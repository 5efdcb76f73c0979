"""The innermost loops of convolutions: small tiles of results that stay in vector registers.

Each lane of a vector belongs to one example. A tile of a convolution consists of a few pixels of 8 channels, and a tile
of a kernel's gradient of a few rows of 8 channels. The order of each sum does not depend on the tiles.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from mnist_hpo.kernels.tiles import Emitter, Factors, offset, tile
from mnist_hpo.kernels.vectors import (
    FLOATS,
    VECTOR_BYTES,
    emit_fma,
    emit_load,
    emit_store,
    has_feature,
)

CHANNELS = 8
"""Output channels of a tile."""
PIXELS = 3 if has_feature("avx512f") else 1
"""Pixels of a wide tile. Its sums take 24 of AVX-512's 32 registers, or elsewhere 16 registers of half the width."""
NARROW_PIXELS = 2
"""The most pixels of a narrow tile."""
KERNEL_ROWS = 3 if has_feature("avx512f") else 1
"""Rows of a tile of a kernel's gradient. A row is a pair of a kernel column and an input channel."""

_I64 = ir.IntType(64)
_ZEROS = ir.Constant(FLOATS, [0.0] * 16)


def _emit_convolution(
    builder: Emitter,
    factors: Factors,
    tile_pixels: int,
    ring: Any,
    slot_bytes: Any,
    first_slot: Any,
    n_slots: Any,
    x_offset: Any,
    pixel_bytes: Any,
    n_terms: Any,
    weights: Any,
    target: Any,
    target_pixel_bytes: Any,
    n_pixels: Any,
    n_channels: Any,
    moments: Any,
) -> None:
    """Emit a tile; see `convolve_wide_tile`. If `n_pixels` is not None, only the first n_pixels are written."""
    sums = [[cgutils.alloca_once_value(builder, _ZEROS) for _ in range(CHANNELS)] for _ in range(tile_pixels)]
    weight = cgutils.alloca_once_value(builder, weights)
    with cgutils.for_range(builder, n_slots) as rows:
        slot = builder.add(first_slot, rows.index)
        slot = builder.select(builder.icmp_signed(">=", slot, n_slots), builder.sub(slot, n_slots), slot)
        row = builder.add(builder.add(ring, x_offset), builder.mul(slot, slot_bytes))
        with cgutils.for_range(builder, n_terms) as terms:
            term = builder.add(row, builder.mul(terms.index, _I64(VECTOR_BYTES)))
            inputs = [factors.load(builder, offset(builder, term, p, pixel_bytes)) for p in range(tile_pixels)]
            here = builder.load(weight)
            for channel in range(CHANNELS):
                by = factors.broadcast(builder, offset(builder, here, 4 * channel))
                for pixel in range(tile_pixels):
                    total = sums[pixel][channel]
                    builder.store(factors.multiply_add(builder, inputs[pixel], by, builder.load(total)), total)
            builder.store(offset(builder, here, 4 * CHANNELS), weight)
    values = [[builder.load(total) for total in of_pixel] for of_pixel in sums]
    places = [offset(builder, target, pixel, target_pixel_bytes) for pixel in range(tile_pixels)]
    if n_pixels is not None:
        for pixel in range(1, tile_pixels):
            exists = builder.icmp_signed("<", _I64(pixel), n_pixels)
            # Pixels after the last are stored as the first pixel, which is stored after them.
            places[pixel] = builder.select(exists, places[pixel], target)
            values[pixel] = [builder.select(exists, value, _ZEROS) for value in values[pixel]]
    for channel in range(CHANNELS):
        with builder.if_then(builder.icmp_signed("<", _I64(channel), n_channels), likely=True):
            for pixel in reversed(range(tile_pixels)):
                emit_store(builder, values[pixel][channel], offset(builder, places[pixel], channel * 2 * VECTOR_BYTES))
    for channel in range(CHANNELS):
        place = offset(builder, moments, channel * 2 * VECTOR_BYTES)
        total, squares = (emit_load(builder, offset(builder, place, n), FLOATS) for n in (0, VECTOR_BYTES))
        for of_pixel in values:
            value = of_pixel[channel]
            total, squares = builder.fadd(total, value), emit_fma(builder, value, value, squares)
        emit_store(builder, total, place)
        emit_store(builder, squares, offset(builder, place, VECTOR_BYTES))


@tile
def convolve_wide_tile(
    builder: Emitter,
    factors: Any,
    ring: Any,
    slot_bytes: Any,
    first_slot: Any,
    n_slots: Any,
    x_offset: Any,
    pixel_bytes: Any,
    n_terms: Any,
    weights: Any,
    target: Any,
    target_pixel_bytes: Any,
    n_channels: Any,
    moments: Any,
) -> None:
    """Sum over the kernel's rows and their terms, and write the sums of PIXELS pixels.

    Args:
        builder: LLVM's.
        factors: how factors are loaded and multiplied.
        ring: the address of the ring buffer, with a row of the input in each slot.
        slot_bytes: from one slot to the next.
        first_slot: the slot of the first row.
        n_slots: the number of slots, which is the kernel's height. The last slot is followed by the first.
        x_offset: the bytes from a row's start to the tile's first pixel.
        pixel_bytes: from one pixel to the next.
        n_terms: the number of consecutive vectors of a row that are summed for a pixel.
        weights: the address of [rows, terms, CHANNELS] numbers of four bytes.
        target: the address of the sums of the tile's first pixel; its channels are two vectors apart.
        target_pixel_bytes: from one pixel to the next.
        n_channels: how many channels are written.
        moments: the address of [CHANNELS, 2] vectors, to which the results and their squares are added.

    """
    before = ring, slot_bytes, first_slot, n_slots, x_offset, pixel_bytes, n_terms, weights, target, target_pixel_bytes
    _emit_convolution(builder, factors, PIXELS, *before, None, n_channels, moments)


@tile
def convolve_narrow_tile(
    builder: Emitter,
    factors: Any,
    ring: Any,
    slot_bytes: Any,
    first_slot: Any,
    n_slots: Any,
    x_offset: Any,
    pixel_bytes: Any,
    n_terms: Any,
    weights: Any,
    target: Any,
    target_pixel_bytes: Any,
    n_channels: Any,
    moments: Any,
    n_pixels: Any,
) -> None:
    """Write the sums of n_pixels, 1 or 2; see `convolve_wide_tile`. Two pixels are read."""
    before = ring, slot_bytes, first_slot, n_slots, x_offset, pixel_bytes, n_terms, weights, target, target_pixel_bytes
    _emit_convolution(builder, factors, NARROW_PIXELS, *before, n_pixels, n_channels, moments)


@tile
def gradient_tile(
    builder: Emitter,
    factors: Any,
    x: Any,
    x_row_bytes: Any,
    x_pixel_bytes: Any,
    gradient: Any,
    gradient_row_bytes: Any,
    gradient_pixel_bytes: Any,
    n_rows: Any,
    n_pixels: Any,
    sums: Any,
) -> None:
    """Add the products of the input's and the gradient's vectors at each pixel to [KERNEL_ROWS, CHANNELS] vectors.

    Args:
        builder: LLVM's.
        factors: how factors are loaded and multiplied.
        x: the address of the first pixel's KERNEL_ROWS consecutive vectors.
        x_row_bytes: from one row of pixels to the next.
        x_pixel_bytes: from one pixel to the next.
        gradient: the address of the first pixel's CHANNELS consecutive vectors.
        gradient_row_bytes: as for x.
        gradient_pixel_bytes: as for x.
        n_rows: the number of rows of pixels.
        n_pixels: the number of pixels of a row.
        sums: the address of the vectors that are added to.

    """
    places = [offset(builder, sums, n * VECTOR_BYTES) for n in range(KERNEL_ROWS * CHANNELS)]
    totals = [cgutils.alloca_once_value(builder, emit_load(builder, place, FLOATS)) for place in places]
    with cgutils.for_range(builder, n_rows) as rows:
        x_row = builder.add(x, builder.mul(rows.index, x_row_bytes))
        gradient_row = builder.add(gradient, builder.mul(rows.index, gradient_row_bytes))
        with cgutils.for_range(builder, n_pixels) as pixels:
            x_pixel = builder.add(x_row, builder.mul(pixels.index, x_pixel_bytes))
            pixel = builder.add(gradient_row, builder.mul(pixels.index, gradient_pixel_bytes))
            inputs = [factors.load(builder, offset(builder, x_pixel, n * VECTOR_BYTES)) for n in range(KERNEL_ROWS)]
            for channel in range(CHANNELS):
                slope = factors.load(builder, offset(builder, pixel, channel * VECTOR_BYTES))
                for row, value in enumerate(inputs):
                    total = totals[row * CHANNELS + channel]
                    builder.store(factors.multiply_add(builder, value, slope, builder.load(total)), total)
    for place, total in zip(places, totals, strict=True):
        emit_store(builder, builder.load(total), place)
