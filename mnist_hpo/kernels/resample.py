"""Resample images by bilinear interpolation. XLA would recompute the coordinates for each of the four neighbours."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    dimension,
    handle_registration,
    input_buffer,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.native import call_kernel, register_kernel

_ONE = np.float32(1)


def resample(images: jax.Array, maps: jax.Array, shifts: jax.Array | None = None) -> jax.Array:
    """Return images at mapped coordinates, with zeros outside.

    This is `scipy.ndimage.map_coordinates` with `order=1, mode="grid-constant"`. It has no gradient.

    Args:
        images: f32[B, H, W, C].
        maps: f32[B, 2, 3]: the pixel at (y, x) is taken from maps[b] @ (y, x, 1), in pixels.
        shifts: f32[B, 2, H, W], added to the coordinates y and x; None for zeros.

    Returns:
        f32[B, H, W, C].

    """
    if shifts is None:
        shifts = jnp.zeros((len(images), 2, 0, 0), jnp.float32)
    return call_kernel(_kernel, _reference, images, maps, shifts)


def _kernel(images: jax.Array, maps: jax.Array, shifts: jax.Array) -> jax.Array:
    shape = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    return jax.ffi.ffi_call(register_kernel("resample", _handler), shape)(images, maps, shifts)


def _reference(images: jax.Array, maps: jax.Array, shifts: jax.Array) -> jax.Array:
    n, height, width, n_channels = images.shape
    row = jnp.arange(height, dtype=jnp.float32)[None, :, None]
    column = jnp.arange(width, dtype=jnp.float32)[None, None, :]
    y, x = (
        (maps[:, axis, 0, None, None] * row + maps[:, axis, 1, None, None] * column) + maps[:, axis, 2, None, None]
        for axis in (0, 1)
    )
    if shifts.shape[2] > 0:
        y, x = y + shifts[:, 0], x + shifts[:, 1]
    # One row and column of zeros before the image and two after it: all four neighbours are always inside.
    padded = jnp.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0))).reshape(-1, n_channels)
    # As in the kernel, NaN becomes -1.
    y, x = (jnp.where(place > -1, jnp.minimum(place, size), -1.0) for place, size in ((y, height), (x, width)))
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = (y - top)[..., None], (x - left)[..., None]
    first_row = (jnp.arange(n, dtype=jnp.int32) * (height + 3))[:, None, None]
    corner = (first_row + top.astype(jnp.int32) + 1) * (width + 3) + left.astype(jnp.int32) + 1

    def at(offset: int) -> jax.Array:
        return padded.at[corner + offset].get(mode="promise_in_bounds")

    upper = at(0) * (1 - right) + at(1) * right
    lower = at(width + 3) * (1 - right) + at(width + 4) * right
    return upper * (1 - below) + lower * below


@compiled
def _pixel(
    image: NDArray[np.float32], row: Any, column: Any, channel: int, height: int, width: int, n_channels: int
) -> Any:
    if row < 0 or row >= height or column < 0 or column >= width:
        return np.float32(0)
    return image[(row * width + column) * n_channels + channel]


@compiled
def _clipped(value: Any, size: int) -> Any:
    """Return a coordinate from -1 to the size; beyond, all pixels are zero. NaN becomes -1."""
    return np.float32(min(value, np.float32(size))) if value > np.float32(-1) else np.float32(-1)


@compiled
def _resample_image(
    image: NDArray[np.float32],
    m: NDArray[np.float32],
    shifts: NDArray[np.float32],
    result: NDArray[np.float32],
    height: int,
    width: int,
    n_channels: int,
) -> None:
    n_pixels = height * width
    for i in range(height):
        for j in range(width):
            y = (m[0] * np.float32(i) + m[1] * np.float32(j)) + m[2]
            x = (m[3] * np.float32(i) + m[4] * np.float32(j)) + m[5]
            place = i * width + j
            if shifts.shape[0] > 0:
                y, x = y + shifts[place], x + shifts[n_pixels + place]
            y, x = _clipped(y, height), _clipped(x, width)
            top, left = np.int64(np.floor(y)), np.int64(np.floor(x))
            below, right = y - np.float32(top), x - np.float32(left)
            for c in range(n_channels):
                at_left = _pixel(image, top, left, c, height, width, n_channels)
                at_right = _pixel(image, top, left + 1, c, height, width, n_channels)
                upper = at_left * (_ONE - right) + at_right * right
                at_left = _pixel(image, top + 1, left, c, height, width, n_channels)
                at_right = _pixel(image, top + 1, left + 1, c, height, width, n_channels)
                lower = at_left * (_ONE - right) + at_right * right
                result[place * n_channels + c] = upper * (_ONE - below) + lower * below


def _handler(call: Any) -> Any:
    """Inputs: images f32[B, H, W, C], maps f32[B, 2, 3], shifts f32[B, 2, H, W] or f32[B, 2, 0, 0]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    output = output_buffer(frame, 0)
    n, height, width, n_channels = (
        dimension(output, 0),
        dimension(output, 1),
        dimension(output, 2),
        dimension(output, 3),
    )
    n_values = height * width * n_channels
    n_shifts = 2 * dimension(input_buffer(frame, 2), 2) * width
    images, maps, shifts = data(input_buffer(frame, 0)), data(input_buffer(frame, 1)), data(input_buffer(frame, 2))
    results = data(output)
    for b in range(n):
        _resample_image(
            array(images + 4 * b * n_values, n_values, np.float32),
            array(maps + 4 * b * 6, 6, np.float32),
            array(shifts + 4 * b * n_shifts, n_shifts, np.float32),
            array(results + 4 * b * n_values, n_values, np.float32),
            height,
            width,
            n_channels,
        )
    return pointer_to(0)
