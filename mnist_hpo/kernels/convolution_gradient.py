"""The gradient of a convolution's kernel, from blocked images.

Each element of the gradient is a sum over pixels and examples. A tile of these sums stays in registers while the kernel
reads a band of pixel rows that fits into the cache. Each lane sums over other examples; lanes are added at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_hpo.kernels.blocked_images import images_of
from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    handle_registration,
    input_buffer,
    load_word,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled, inlined
from mnist_hpo.kernels.convolution_tiles import CHANNELS, KERNEL_ROWS, gradient_tile
from mnist_hpo.kernels.convolve import as_words, clear
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.plain_convolution import Padding, kernel_gradient
from mnist_hpo.kernels.vectors import VECTOR_BYTES, load, load_words, store_words, sum_of_lanes

_BAND_BYTES = 160 * 1024
"""Bytes of a band of the input and of the gradient together: a part of the L2 cache."""
_SUMS_BYTES = 4 * 1024**2
"""The most bytes of the sums of a chunk, unless the smallest chunk, CHANNELS output channels, needs more."""


class _Settings(NamedTuple):
    """The settings that the handler reads, in this order."""

    n_blocks: int
    n_parities: int
    """2 for float32: first the examples with even numbers are summed, then the others. 1 for bfloat16."""
    height: int
    n_kernel_rows: int
    """Pairs of a kernel column and an input channel."""
    n_in: int
    n_out: int
    chunk: int
    """Output channels whose sums are computed at a time."""
    band: int
    """Rows of pixels in a band."""
    top: int
    in_height: int
    in_row_bytes: int
    copied_from: int
    """Bytes from the start of an input row to the first pixel that is copied."""
    copied_to: int
    """Bytes from the start of a band's row to that pixel."""
    n_copied: int
    """Vectors of an input row that are copied."""
    x_row_vectors: int
    """Vectors of a padded row."""
    out_height: int
    out_width: int
    x_band: int
    """Bytes from the start of the scratch memory to the band of the input."""
    gradient_band: int
    """Bytes from the start of the scratch memory to the band of the gradient."""


_AT = _Settings(*range(len(_Settings._fields)))
"""The index of each setting, a constant in compiled functions."""


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
    return kernel_gradient(images_of(x), images_of(gradient), padding)


def _kernel(x: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], padding: Padding) -> jax.Array:
    (top, _), (left, _) = padding
    height, width = kernel_size
    n_blocks, in_height, in_width, n_in, *_ = x.shape
    _, out_height, out_width, n_out, *_ = gradient.shape
    is_short = x.dtype == jnp.bfloat16
    n_parities = 1 if is_short else 2
    n_kernel_rows = width * n_in
    channel_bytes = VECTOR_BYTES * height * -(-n_kernel_rows // KERNEL_ROWS) * KERNEL_ROWS
    chunk = min(max(_SUMS_BYTES // (channel_bytes * CHANNELS), 1), -(-n_out // CHANNELS)) * CHANNELS
    row = out_width + width - 1
    band = min(max(_BAND_BYTES // (VECTOR_BYTES * (row * n_in + out_width * chunk)), 1), out_height)
    x_bytes = VECTOR_BYTES * ((band + height - 1) * row * n_in + KERNEL_ROWS)
    first_pixel, last_pixel = min(max(left, 0), row), max(min(left + in_width, row), 0)
    settings = _Settings(
        n_blocks=n_blocks,
        n_parities=n_parities,
        height=height,
        n_kernel_rows=n_kernel_rows,
        n_in=n_in,
        n_out=n_out,
        chunk=chunk,
        band=band,
        top=top,
        in_height=in_height,
        in_row_bytes=in_width * n_in * n_parities * VECTOR_BYTES,
        copied_from=(first_pixel - left) * n_in * n_parities * VECTOR_BYTES,
        copied_to=first_pixel * n_in * VECTOR_BYTES,
        n_copied=max(last_pixel - first_pixel, 0) * n_in,
        x_row_vectors=row * n_in,
        out_height=out_height,
        out_width=out_width,
        x_band=channel_bytes * chunk,
        gradient_band=channel_bytes * chunk + x_bytes,
    )
    outputs = [
        jax.ShapeDtypeStruct((*kernel_size, n_in, n_out), jnp.float32),
        jax.ShapeDtypeStruct((settings.gradient_band + VECTOR_BYTES * band * out_width * chunk,), jnp.uint8),
    ]
    if is_short:
        target = register_kernel("convolution_gradient_bf16", _handler_bf16)
    else:
        target = register_kernel("convolution_gradient_f32", _handler_f32)
    return jax.ffi.ffi_call(target, outputs)(x, gradient, as_words(settings))[0]


@compiled
def _copy(source: int, stride: int, n_vectors: int, target: int) -> None:
    """Copy every vector (stride 1), or every second one (stride 2)."""
    for i in range(n_vectors):
        store_words(load_words(source + VECTOR_BYTES * stride * i), target + VECTOR_BYTES * i)


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
    """Add the products of a band to the sums."""
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
def _write_sums(
    sums: int, height: int, n_kernel_rows: int, n_padded: int, n_channels: int, n_out: int, result: int
) -> None:
    """Write the sums of the lanes to a chunk of the channels of f32[height, n_kernel_rows, n_out]."""
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
    """Compute the gradient, one chunk of output channels at a time.

    Inputs: x, gradient, the settings. Outputs: f32[h, w, I, O], and scratch memory for the sums and the bands.
    """
    x, gradient, result = data(input_buffer(frame, 0)), data(input_buffer(frame, 1)), data(output_buffer(frame, 0))
    settings = data(input_buffer(frame, 2))
    sums = data(output_buffer(frame, 1))
    x_band, gradient_band = sums + load_word(settings, _AT.x_band), sums + load_word(settings, _AT.gradient_band)
    n_parities, height, n_in, n_out = (
        load_word(settings, _AT.n_parities),
        load_word(settings, _AT.height),
        load_word(settings, _AT.n_in),
        load_word(settings, _AT.n_out),
    )
    chunk, band, in_height = (
        load_word(settings, _AT.chunk),
        load_word(settings, _AT.band),
        load_word(settings, _AT.in_height),
    )
    x_row_vectors, out_height, out_width = (
        load_word(settings, _AT.x_row_vectors),
        load_word(settings, _AT.out_height),
        load_word(settings, _AT.out_width),
    )
    x_row_bytes = x_row_vectors * VECTOR_BYTES
    for first_channel in range(0, n_out, chunk):
        n_channels = min(chunk, n_out - first_channel)
        n_padded = (n_channels + CHANNELS - 1) // CHANNELS * CHANNELS
        # Zero what is not written below: the sums, the padding, and the unused channels of the last tile.
        clear(sums, (gradient_band - sums) // VECTOR_BYTES + band * out_width * n_padded)
        for block in range(load_word(settings, _AT.n_blocks)):
            for first_row in range(0, out_height, band):
                n_rows = min(band, out_height - first_row)
                for parity in range(n_parities):
                    for i in range(n_rows + height - 1):
                        in_row = first_row + i - load_word(settings, _AT.top)
                        target = x_band + i * x_row_bytes
                        if 0 <= in_row < in_height:
                            source = x + (block * in_height + in_row) * load_word(settings, _AT.in_row_bytes)
                            source += load_word(settings, _AT.copied_from) + parity * VECTOR_BYTES
                            _copy(
                                source,
                                n_parities,
                                load_word(settings, _AT.n_copied),
                                target + load_word(settings, _AT.copied_to),
                            )
                        else:
                            clear(target, x_row_vectors)
                    pixel = (block * out_height + first_row) * out_width * n_out + first_channel
                    source = gradient + (pixel * n_parities + parity) * VECTOR_BYTES
                    target = gradient_band
                    for _ in range(n_rows * out_width):
                        _copy(source, n_parities, n_channels, target)
                        source += n_out * n_parities * VECTOR_BYTES
                        target += n_padded * VECTOR_BYTES
                    _add_band(
                        x_band,
                        x_row_bytes,
                        n_in * VECTOR_BYTES,
                        gradient_band,
                        n_padded,
                        n_rows,
                        out_width,
                        height,
                        load_word(settings, _AT.n_kernel_rows),
                        dtype,
                        sums,
                    )
        place = result + 4 * first_channel
        _write_sums(sums, height, load_word(settings, _AT.n_kernel_rows), n_padded, n_channels, n_out, place)


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
