"""Exact averages over areas of pixels, in integers."""

import numpy as np
from numpy.typing import NDArray

LEVEL = 256
"""The number of parts into which one grey level is divided."""

MAX_WORKING_PIXELS = 200_000
"""Larger pictures are reduced to at most this size before anything is looked for in them."""


def reduction(height: int, width: int) -> int:
    """Return the side in pixels of the square blocks whose averages have at most `MAX_WORKING_PIXELS` pixels."""
    side = 1
    while -(-height // side) * -(-width // side) > MAX_WORKING_PIXELS:
        side += 1
    return side


def block_averages(grey: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Return the average of each block of side × side pixels in 256ths of a grey level, i64[h, w], rounded.

    The last blocks of rows and columns are smaller if the side does not divide the picture's.
    """
    if side == 1:
        return grey.astype(np.int64) * LEVEL
    rows, columns = np.arange(0, grey.shape[0], side), np.arange(0, grey.shape[1], side)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.uint32), columns, axis=1).astype(np.int64)
    heights, widths = np.minimum(side, grey.shape[0] - rows), np.minimum(side, grey.shape[1] - columns)
    counts = heights[:, None] * widths
    return (sums * LEVEL + counts // 2) // counts


def area_sums(values: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Divide an image into height × width equal areas and return the integral over each, i64[height, width].

    A pixel on a boundary belongs to both areas in proportion. The unit is a pixel divided by height · width, so an
    area of ones has the integral `values.size`, and the result is exact.
    """
    return _sums_along_rows(_sums_along_rows(values, height).T, width).T


def _sums_along_rows(values: NDArray[np.int64], n_areas: int) -> NDArray[np.int64]:
    n_rows = len(values)
    boundaries = np.arange(n_areas + 1) * n_rows
    whole, part = boundaries // n_areas, (boundaries % n_areas)[:, None]
    padded = np.concatenate([values, np.zeros_like(values[:1])])
    before = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    return np.diff(before[whole] * n_areas + padded[whole] * part, axis=0)
