"""Convert images of the usual shapes and types to the pixels that a model takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_hpo.spec.errors import UserError


def accepted_shapes(image_shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The shapes in which `to_pixels` takes an image: flat, as it looks, and without its channel where it has one."""
    height, width, channels = image_shape
    grey = [(height, width)] if channels == 1 else []
    return [(math.prod(image_shape),), *grey, image_shape]


def to_pixels(images: ArrayLike, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return images as u8[n, height * width * channels], without changing any value.

    Args:
        images: numbers, n times one of `accepted_shapes`; whole values from 0 to 255, of any integer or floating-point
            type.
        image_shape: height, width and channels of an image.

    Raises:
        UserError: the shape, the type or a value is unsupported. Nothing is scaled or rounded silently.

    """
    try:
        array: NDArray[Any] = np.asarray(images)
    except ValueError:
        raise UserError(f"images of different sizes; pass one array of shape (n, {math.prod(image_shape)})") from None
    known = accepted_shapes(image_shape)
    if array.shape[1:] not in known:
        shapes = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in known[:2])
        hint = "; for a single image, pass image[None]" if array.shape in known else ""
        raise UserError(f"images of shape {array.shape}; pass {shapes}{hint}")
    if array.dtype.kind not in "uif":
        raise UserError(f"images of type {array.dtype}; pass integers or floats from 0 to 255")
    if array.dtype != np.uint8 and array.size:
        _check_values(array)
    return array.reshape(len(array), math.prod(image_shape)).astype(np.uint8, copy=False)


def _check_values(array: NDArray[Any]) -> None:
    low, high = array.min(), array.max()  # NaN where any value is NaN.
    if not (low >= 0 and high <= 255):
        raise UserError(f"pixel values from {low} to {high}; pass the raw values, 0 (background) to 255 (ink)")
    if array.dtype.kind != "f":
        return
    if 0 < high <= 1:
        raise UserError(
            f"the largest pixel value is {high}: the images seem to be scaled to 0..1; pass the raw values, 0 to 255, "
            "such as np.rint(images * 255)"
        )
    if not np.array_equal(array, np.rint(array)):
        raise UserError("pixel values that are not whole numbers; pass the raw values, 0 to 255")
