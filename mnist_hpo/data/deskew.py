"""Straighten slanted digits and centre them, by the moments of their pixels. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1000
"""Images in memory as float64 at a time."""


def deskew(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return u8[E, H, W, C]: each image sheared along its rows, so that its pixels lean to neither side, and centred.

    The slant is the slope of x against y in a linear regression weighted by the pixels; the centre of mass moves to the
    image's middle. Pixels between the grid are interpolated (bilinear), those outside are 0. An image whose pixels are
    all 0 stays as it is. LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), section III.

    Args:
        images: u8[E, H, W, C].

    """
    found = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        found[rows] = _deskew(images[rows])
    return found


def _deskew(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    n, height, width, _ = images.shape
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    centre_y, centre_x, slope = _moments(images.sum(axis=3, dtype=np.int64), y, x)
    # The place in the image that pixel (y, x) of the result is taken from.
    top, weight_y = _split(y[None] + centre_y[:, None] + (height - 1) / 2)
    left, weight_x = _split(x + (centre_x[:, None] + slope[:, None] * y)[:, :, None] + (width - 1) / 2)
    result = np.zeros(images.shape)
    image = np.arange(n)[:, None, None]
    for down, share_y in ((0, 1 - weight_y), (1, weight_y)):
        for right, share_x in ((0, 1 - weight_x), (1, weight_x)):
            row, column = (top + down)[:, :, None], left + right
            is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixels = images[image, row.clip(0, height - 1), column.clip(0, width - 1)]
            result += (share_y[:, :, None] * share_x * is_inside)[..., None] * pixels
    return np.rint(result).astype(np.uint8)


def _moments(
    mass: NDArray[np.int64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each image's centre of mass (y, x) and its slope of x against y, from its pixels i64[E, H, W]."""
    total = np.maximum(mass.sum(axis=(1, 2)), 1)
    by_row, by_column = mass.sum(axis=2), mass.sum(axis=1)
    centre_y, centre_x = by_row @ y / total, by_column @ x / total
    variance = by_row @ y**2 / total - centre_y**2
    covariance = (mass @ x) @ y / total - centre_y * centre_x
    slope = np.divide(covariance, variance, out=np.zeros(len(mass)), where=variance > 1e-6)
    return centre_y, centre_x, slope


def _split(places: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the whole and the fractional part of coordinates."""
    whole = np.floor(places)
    return whole.astype(np.int64), places - whole
