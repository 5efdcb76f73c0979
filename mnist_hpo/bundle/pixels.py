"""Convert images of the usual shapes and types to the pixels that a model takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_hpo.spec.errors import UserError


def to_pixels(images: ArrayLike, n_features: int) -> NDArray[np.uint8]:
    """Return images as u8[n, n_features], without changing any value.

    Args:
        images: numbers [n, n_features] or, for square images, [n, height, width] or [n, height, width, 1]; whole values
            from 0 to 255, of any integer or floating-point type.
        n_features: the number of pixels of an image.

    Raises:
        UserError: the shape, the type or a value is unsupported. Nothing is scaled or rounded silently.

    """
    try:
        array: NDArray[Any] = np.asarray(images)
    except ValueError:
        raise UserError(f"images of different sizes; pass one array of shape (n, {n_features})") from None
    side = math.isqrt(n_features)
    square = (side, side) if side * side == n_features else None
    known = [(n_features,), *([square, (*square, 1)] if square else [])]
    if array.shape[1:] not in known:
        shapes = f"(n, {n_features})" + (f" or (n, {side}, {side})" if square else "")
        hint = "; for a single image, pass image[None]" if array.shape in known else ""
        raise UserError(f"images of shape {array.shape}; pass {shapes}{hint}")
    if array.dtype.kind not in "uif":
        raise UserError(f"images of type {array.dtype}; pass integers or floats from 0 to 255")
    if array.dtype != np.uint8 and array.size:
        _check_values(array)
    return array.reshape(len(array), n_features).astype(np.uint8, copy=False)


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
