"""The gradient of `normalise`, in two passes.

The gradient of batch normalisation (Ioffe & Szegedy, "Batch Normalization", 2015) depends on two sums over all
examples, which the first pass computes. Each pass recomputes the normalised values, because reading them takes longer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mnist_hpo.kernels.arithmetic import ONE
from mnist_hpo.kernels.blocked_images import EXAMPLES, block_shape, images_of
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
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.convolve import add_lanes, clear
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.normalise import (
    MAX,
    MEAN,
    Pool,
    activated,
    affine,
    channel_factors,
    masked_blocks,
    per_channel,
    settings,
    store_pair,
    window_maximum,
)
from mnist_hpo.kernels.vectors import (
    VECTOR_BYTES,
    add,
    divide,
    larger,
    load,
    mask_of_first,
    masked,
    multiply_add,
    splat,
    store,
    where_equal,
    where_positive,
)


def normalise_sums(y: jax.Array, slopes: jax.Array, factors: jax.Array, pool: Pool) -> jax.Array:
    """Return f32[2, C], the sums over all examples and pixels of the slope, and of the slope times the normalised y.

    The slope is the gradient of the loss with respect to y · factors[0] + factors[1].

    Args:
        y: as for `normalise`.
        slopes: the gradient with respect to the result of `normalise`, blocks of float32; if `pool` is "mean", divided
            by the number of pixels.
        factors: f32[4, C]: scale and shift as for `normalise`, then the scale and shift that normalise y.
        pool: as for `normalise`.

    """
    return call_kernel(partial(_sums, pool=pool), partial(_sums_reference, pool=pool), y, slopes, factors)


def normalise_gradient(
    y: jax.Array, slopes: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike
) -> jax.Array:
    """Return slope · factors[0] + y · factors[2] + factors[3], with the slope of `normalise_sums`.

    Args:
        y: as for `normalise`.
        slopes: as for `normalise_sums`.
        factors: f32[4, C], the first two as for `normalise`.
        n_examples: as for `normalise`.
        pool: as for `normalise`.
        dtype: float32 or bfloat16.

    Returns:
        Blocks of that dtype, of y's shape.

    """
    options = {"n_examples": n_examples, "pool": pool, "dtype": dtype}
    return call_kernel(partial(_gradient, **options), partial(_gradient_reference, **options), y, slopes, factors)


def _slopes_of_scaled(y: jax.Array, slopes: jax.Array, factors: jax.Array, pool: Pool) -> tuple[jax.Array, jax.Array]:
    """Return y, and the gradient with respect to its scaled values, as images."""
    images = images_of(y)
    _, pull_back = jax.vjp(partial(activated, pool=pool), affine(images, factors, 0))
    n_pixels = images.shape[1] * images.shape[2] if pool == "mean" else 1
    return images, pull_back(n_pixels * images_of(slopes))[0]


def _sums_reference(y: jax.Array, slopes: jax.Array, factors: jax.Array, pool: Pool) -> jax.Array:
    images, inner = _slopes_of_scaled(y, slopes, factors, pool)
    return jnp.stack([inner.sum((0, 1, 2)), (inner * affine(images, factors, 2)).sum((0, 1, 2))])


def _gradient_reference(
    y: jax.Array, slopes: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike
) -> jax.Array:
    images, inner = _slopes_of_scaled(y, slopes, factors, pool)
    return masked_blocks(inner * per_channel(factors[0]) + affine(images, factors, 2), n_examples, dtype)


def _sums(y: jax.Array, slopes: jax.Array, factors: jax.Array, pool: Pool) -> jax.Array:
    channels = y.shape[3]
    outputs = [
        jax.ShapeDtypeStruct((2, channels), jnp.float32),
        jax.ShapeDtypeStruct((VECTOR_BYTES * 2 * channels,), jnp.uint8),
    ]
    call = jax.ffi.ffi_call(register_kernel("normalise_sums", _sums_handler), outputs)
    return call(y, slopes, factors, settings(0, pool))[0]


def _gradient(
    y: jax.Array, slopes: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike
) -> jax.Array:
    n_blocks, height, width, channels, *_ = y.shape
    shape = block_shape(n_blocks * EXAMPLES, (height, width, channels), dtype)
    target = register_kernel("normalise_gradient", _gradient_handler)
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(shape, dtype))(y, slopes, factors, settings(n_examples, pool))


@compiled
def _window_slope(place: int, down: int, right: int, scale: Any, shift: Any, highest: Any, slope: Any) -> Any:
    """Return the slope of each value that equals the window's maximum: equal shares of the maximum's slope."""
    one = splat(ONE)
    n = where_equal(multiply_add(load(place), scale, shift), highest, one)
    n = add(n, where_equal(multiply_add(load(place + right), scale, shift), highest, one))
    n = add(n, where_equal(multiply_add(load(place + down), scale, shift), highest, one))
    n = add(n, where_equal(multiply_add(load(place + down + right), scale, shift), highest, one))
    return divide(where_positive(highest, slope), larger(n, one))


@compiled
def _add_products(place: int, slope: Any, normalised: Any) -> None:
    store(add(load(place), slope), place)
    store(multiply_add(slope, normalised, load(place + VECTOR_BYTES)), place + VECTOR_BYTES)


@compiled
def _sum_image(
    y: int, slopes: int, slope_bytes: int, height: int, width: int, factors: int, channels: int, sums: int
) -> None:
    """Add a block's sums without maximum pooling. `slope_bytes`: from one pixel's slopes to the next's; 0 if shared."""
    for pixel in range(height * width):
        for channel in range(channels):
            scale, shift = channel_factors(factors, 0, channels, channel)
            to_unit, unit_shift = channel_factors(factors, 2, channels, channel)
            for parity in range(2):
                value = load(y + ((pixel * channels + channel) * 2 + parity) * VECTOR_BYTES)
                slope = load(slopes + pixel * slope_bytes + (2 * channel + parity) * VECTOR_BYTES)
                slope = where_positive(multiply_add(value, scale, shift), slope)
                _add_products(sums + 2 * channel * VECTOR_BYTES, slope, multiply_add(value, to_unit, unit_shift))


@compiled
def _sum_windows(y: int, slopes: int, height: int, width: int, factors: int, channels: int, sums: int) -> None:
    """Add a block's sums with maximum pooling."""
    right = 2 * VECTOR_BYTES * channels
    down = right * width
    for row in range(height // 2):
        for column in range(width // 2):
            for channel in range(channels):
                scale, shift = channel_factors(factors, 0, channels, channel)
                to_unit, unit_shift = channel_factors(factors, 2, channels, channel)
                for parity in range(2):
                    place = y + ((2 * row * width + 2 * column) * channels + channel) * 2 * VECTOR_BYTES
                    place += parity * VECTOR_BYTES
                    index = (row * (width // 2) + column) * channels + channel
                    highest = window_maximum(place, down, right, scale, shift)
                    slope = load(slopes + (2 * index + parity) * VECTOR_BYTES)
                    slope = _window_slope(place, down, right, scale, shift, highest, slope)
                    for below in range(2):
                        for beside in range(2):
                            value = load(place + below * down + beside * right)
                            _add_products(
                                sums + 2 * channel * VECTOR_BYTES,
                                where_equal(multiply_add(value, scale, shift), highest, slope),
                                multiply_add(value, to_unit, unit_shift),
                            )


def _sums_handler(call: Any) -> Any:
    """Inputs: y, slopes, f32[4, C], the settings (unused, pool). Outputs: f32[2, C], and scratch memory."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    y, slopes = input_buffer(frame, 0), input_buffer(frame, 1)
    pool = load_word(data(input_buffer(frame, 3)), 1)
    height, width, channels = dimension(y, 1), dimension(y, 2), dimension(y, 3)
    factors = data(input_buffer(frame, 2))
    sums = data(output_buffer(frame, 1))
    clear(sums, 2 * channels)
    pixel_bytes = channels * 2 * VECTOR_BYTES
    for block in range(dimension(y, 0)):
        source = data(y) + block * height * width * pixel_bytes
        slope = data(slopes) + block * dimension(slopes, 1) * dimension(slopes, 2) * pixel_bytes
        if pool == MAX:
            _sum_windows(source, slope, height, width, factors, channels, sums)
        else:
            _sum_image(source, slope, 0 if pool == MEAN else pixel_bytes, height, width, factors, channels, sums)
    add_lanes(sums, channels, data(output_buffer(frame, 0)))
    return pointer_to(0)


@compiled
def _slope_of_image(
    y: int,
    slopes: int,
    slope_bytes: int,
    height: int,
    width: int,
    factors: int,
    channels: int,
    even: Any,
    odd: Any,
    target: int,
    is_short: bool,
) -> None:
    """Write a block's gradient without maximum pooling."""
    for pixel in range(height * width):
        for channel in range(channels):
            scale, shift = channel_factors(factors, 0, channels, channel)
            by, plus = channel_factors(factors, 2, channels, channel)
            index = pixel * channels + channel
            place = y + index * 2 * VECTOR_BYTES
            first, second = load(place), load(place + VECTOR_BYTES)
            place = slopes + pixel * slope_bytes + channel * 2 * VECTOR_BYTES
            slope = where_positive(multiply_add(first, scale, shift), load(place))
            other = where_positive(multiply_add(second, scale, shift), load(place + VECTOR_BYTES))
            slope = multiply_add(slope, scale, multiply_add(first, by, plus))
            other = multiply_add(other, scale, multiply_add(second, by, plus))
            store_pair(masked(slope, even), masked(other, odd), target, index, is_short)


@compiled
def _slope_of_windows(
    y: int,
    slopes: int,
    height: int,
    width: int,
    factors: int,
    channels: int,
    even: Any,
    odd: Any,
    target: int,
    is_short: bool,
) -> None:
    """Write a block's gradient with maximum pooling. Pixels outside all windows have a slope of 0."""
    right = 2 * VECTOR_BYTES * channels
    down = right * width
    zero = splat(np.float32(0))
    for row in range((height + 1) // 2):
        for column in range((width + 1) // 2):
            is_window = 2 * row + 1 < height and 2 * column + 1 < width
            for channel in range(channels):
                scale, shift = channel_factors(factors, 0, channels, channel)
                by, plus = channel_factors(factors, 2, channels, channel)
                place = y + ((2 * row * width + 2 * column) * channels + channel) * 2 * VECTOR_BYTES
                highest, other_highest, slope, other = zero, zero, zero, zero
                if is_window:
                    index = (row * (width // 2) + column) * channels + channel
                    highest = window_maximum(place, down, right, scale, shift)
                    other_highest = window_maximum(place + VECTOR_BYTES, down, right, scale, shift)
                    slope = load(slopes + 2 * index * VECTOR_BYTES)
                    other = load(slopes + 2 * index * VECTOR_BYTES + VECTOR_BYTES)
                    slope = _window_slope(place, down, right, scale, shift, highest, slope)
                    other = _window_slope(place + VECTOR_BYTES, down, right, scale, shift, other_highest, other)
                for i in range(min(2, height - 2 * row)):
                    for j in range(min(2, width - 2 * column)):
                        at = place + i * down + j * right
                        first, second = load(at), load(at + VECTOR_BYTES)
                        own = where_equal(multiply_add(first, scale, shift), highest, slope)
                        others = where_equal(multiply_add(second, scale, shift), other_highest, other)
                        own = multiply_add(own, scale, multiply_add(first, by, plus))
                        others = multiply_add(others, scale, multiply_add(second, by, plus))
                        index = ((2 * row + i) * width + 2 * column + j) * channels + channel
                        store_pair(masked(own, even), masked(others, odd), target, index, is_short)


def _gradient_handler(call: Any) -> Any:
    """Inputs: y, slopes, f32[4, C], the settings (n_examples, pool). Output: blocks of y's shape."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    y, slopes, result = input_buffer(frame, 0), input_buffer(frame, 1), output_buffer(frame, 0)
    n_examples, pool = load_word(data(input_buffer(frame, 3)), 0), load_word(data(input_buffer(frame, 3)), 1)
    height, width, channels = dimension(y, 1), dimension(y, 2), dimension(y, 3)
    factors = data(input_buffer(frame, 2))
    is_short = is_bfloat16(result)
    pixel_bytes = channels * 2 * VECTOR_BYTES
    for block in range(dimension(y, 0)):
        n = n_examples - block * EXAMPLES
        even, odd = mask_of_first((n + 1) // 2), mask_of_first(n // 2)
        source = data(y) + block * height * width * pixel_bytes
        target = data(result) + block * height * width * pixel_bytes // (2 if is_short else 1)
        slope = data(slopes) + block * dimension(slopes, 1) * dimension(slopes, 2) * pixel_bytes
        if pool == MAX:
            _slope_of_windows(source, slope, height, width, factors, channels, even, odd, target, is_short)
        else:
            slope_bytes = 0 if pool == MEAN else pixel_bytes
            _slope_of_image(source, slope, slope_bytes, height, width, factors, channels, even, odd, target, is_short)
    return pointer_to(0)
