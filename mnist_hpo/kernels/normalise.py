"""Normalisation, ReLU and pooling of blocked images in one pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mnist_hpo.kernels.arithmetic import ONE
from mnist_hpo.kernels.blocked_images import EXAMPLES, block_shape, images_of, to_blocks
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
from mnist_hpo.kernels.convolve import as_words, clear
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.vectors import (
    VECTOR_BYTES,
    add,
    larger,
    load,
    load_splat,
    mask_of_first,
    masked,
    multiply,
    multiply_add,
    rectified,
    rounded_pairs,
    splat,
    store,
    store_words,
)

Pool = Literal["none", "max", "mean"]
"""No pooling, maximum pooling of 2 × 2 windows, or the mean of the whole image."""

_POOLS = ("none", "max", "mean")
NONE, MAX, MEAN = range(3)


def pooled_shape(height: int, width: int, pool: Pool) -> tuple[int, int]:
    """Return the height and the width of a pooled image."""
    return {"none": (height, width), "max": (height // 2, width // 2), "mean": (1, 1)}[pool]


def normalise(y: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike) -> jax.Array:
    """Return the pooled ReLU of y · factors[0] + factors[1].

    Args:
        y: blocks of float32 with C channels.
        factors: f32[2, C], scale and shift.
        n_examples: the number of examples; the results of the last block's padding are zeros.
        pool: the pooling.
        dtype: of the results; float32, or bfloat16 unless `pool` is "mean".

    Returns:
        Blocks of that dtype.

    """
    options = {"n_examples": n_examples, "pool": pool, "dtype": dtype}
    return call_kernel(partial(_normalise, **options), partial(_normalise_reference, **options), y, factors)


def _pooled(images: jax.Array, pool: Pool) -> jax.Array:
    if pool == "none":
        return images
    if pool == "mean":
        return images.mean((1, 2), keepdims=True)
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def activated(scaled: jax.Array, pool: Pool) -> jax.Array:
    """Return the pooled ReLU of images."""
    return _pooled(jax.nn.relu(scaled), pool)


def per_channel(factor: jax.Array) -> jax.Array:
    """Arrange f32[C] to be multiplied by images."""
    return factor[None, None, None, :]


def affine(images: jax.Array, factors: jax.Array, first: int) -> jax.Array:
    """Return images · factors[first] + factors[first + 1], for f32[n, C] factors."""
    return images * per_channel(factors[first]) + per_channel(factors[first + 1])


def masked_blocks(images: jax.Array, n_examples: int, dtype: DTypeLike) -> jax.Array:
    """Return images as blocks, with zeros from example `n_examples` on."""
    exists = (jnp.arange(len(images)) < n_examples)[:, None, None, None]
    return to_blocks(jnp.where(exists, images, 0), dtype)


def _normalise_reference(y: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike) -> jax.Array:
    return masked_blocks(activated(affine(images_of(y), factors, 0), pool), n_examples, dtype)


def settings(n_examples: int, pool: Pool) -> Any:
    """Return the numbers that the handlers read with `load_word`."""
    return as_words((n_examples, _POOLS.index(pool)))


def _normalise(y: jax.Array, factors: jax.Array, n_examples: int, pool: Pool, dtype: DTypeLike) -> jax.Array:
    n_blocks, height, width, channels, *_ = y.shape
    shape = block_shape(n_blocks * EXAMPLES, (*pooled_shape(height, width, pool), channels), dtype)
    call = jax.ffi.ffi_call(register_kernel("normalise", _normalise_handler), jax.ShapeDtypeStruct(shape, dtype))
    return call(y, factors, settings(n_examples, pool))


@compiled
def channel_factors(factors: int, row: int, channels: int, channel: int) -> Any:
    """Return two vectors, filled with factors[row, channel] and factors[row + 1, channel]."""
    place = factors + 4 * (row * channels + channel)
    return load_splat(place), load_splat(place + 4 * channels)


@compiled
def store_pair(even: Any, odd: Any, blocks: int, index: int, is_short: bool) -> None:
    """Write one element of all examples of a block, at the element's index in an image."""
    if is_short:
        store_words(rounded_pairs(even, odd), blocks + VECTOR_BYTES * index)
    else:
        store(even, blocks + 2 * VECTOR_BYTES * index)
        store(odd, blocks + 2 * VECTOR_BYTES * index + VECTOR_BYTES)


@compiled
def window_maximum(place: int, down: int, right: int, scale: Any, shift: Any) -> Any:
    """Return the ReLU of the maximum of a 2 × 2 window's scaled values. `down` and `right` are in bytes."""
    above = larger(multiply_add(load(place), scale, shift), multiply_add(load(place + right), scale, shift))
    below = larger(
        multiply_add(load(place + down), scale, shift), multiply_add(load(place + down + right), scale, shift)
    )
    return rectified(larger(above, below))


@compiled
def _normalise_image(
    y: int, height: int, width: int, factors: int, channels: int, even: Any, odd: Any, target: int, is_short: bool
) -> None:
    """Write a block without pooling."""
    for pixel in range(height * width):
        for channel in range(channels):
            index = pixel * channels + channel
            place = y + 2 * VECTOR_BYTES * index
            scale, shift = channel_factors(factors, 0, channels, channel)
            first = rectified(multiply_add(load(place), scale, shift))
            second = rectified(multiply_add(load(place + VECTOR_BYTES), scale, shift))
            store_pair(masked(first, even), masked(second, odd), target, index, is_short)


@compiled
def _pool_image(
    y: int, height: int, width: int, factors: int, channels: int, even: Any, odd: Any, target: int, is_short: bool
) -> None:
    """Write a block with maximum pooling."""
    right = 2 * VECTOR_BYTES * channels
    down = right * width
    for row in range(height // 2):
        for column in range(width // 2):
            for channel in range(channels):
                place = y + ((2 * row * width + 2 * column) * channels + channel) * 2 * VECTOR_BYTES
                scale, shift = channel_factors(factors, 0, channels, channel)
                first = window_maximum(place, down, right, scale, shift)
                second = window_maximum(place + VECTOR_BYTES, down, right, scale, shift)
                index = (row * (width // 2) + column) * channels + channel
                store_pair(masked(first, even), masked(second, odd), target, index, is_short)


@compiled
def _average_image(
    y: int, height: int, width: int, factors: int, channels: int, even: Any, odd: Any, target: int
) -> None:
    """Write a block with mean pooling."""
    clear(target, 2 * channels)
    for pixel in range(height * width):
        for vector in range(2 * channels):
            channel = vector // 2
            value = load(y + (pixel * 2 * channels + vector) * VECTOR_BYTES)
            scale, shift = channel_factors(factors, 0, channels, channel)
            value = rectified(multiply_add(value, scale, shift))
            place = target + vector * VECTOR_BYTES
            store(add(load(place), value), place)
    share = splat(ONE / np.float32(height * width))
    for channel in range(channels):
        place = target + 2 * channel * VECTOR_BYTES
        store(masked(multiply(load(place), share), even), place)
        store(masked(multiply(load(place + VECTOR_BYTES), share), odd), place + VECTOR_BYTES)


def _normalise_handler(call: Any) -> Any:
    """Inputs: y, f32[2, C], the settings (n_examples, pool). Output: the pooled blocks."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    y, result = input_buffer(frame, 0), output_buffer(frame, 0)
    n_examples, pool = load_word(data(input_buffer(frame, 2)), 0), load_word(data(input_buffer(frame, 2)), 1)
    height, width, channels = dimension(y, 1), dimension(y, 2), dimension(y, 3)
    factors = data(input_buffer(frame, 1))
    is_short = is_bfloat16(result)
    n_results = dimension(result, 1) * dimension(result, 2) * channels
    for block in range(dimension(y, 0)):
        n = n_examples - block * EXAMPLES
        even, odd = mask_of_first((n + 1) // 2), mask_of_first(n // 2)
        source = data(y) + block * height * width * channels * 2 * VECTOR_BYTES
        target = data(result) + block * n_results * VECTOR_BYTES * (1 if is_short else 2)
        if pool == NONE:
            _normalise_image(source, height, width, factors, channels, even, odd, target, is_short)
        elif pool == MAX:
            _pool_image(source, height, width, factors, channels, even, odd, target, is_short)
        else:
            _average_image(source, height, width, factors, channels, even, odd, target)
    return pointer_to(0)
