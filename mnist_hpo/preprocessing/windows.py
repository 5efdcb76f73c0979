"""Averages and extremes in a square window around each pixel. At the border, the window is cut off."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def box_average(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Return the average of the pixels that are at most `reach` away in each direction, i64[H, W], rounded."""
    if reach == 0:
        return values
    rows, columns = (_window(n, reach) for n in values.shape)
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    bands = integral[rows[1]] - integral[rows[0]]
    sums = bands[:, columns[1]] - bands[:, columns[0]]
    counts = (rows[1] - rows[0])[:, None] * (columns[1] - columns[0])
    return (sums + counts // 2) // counts


def _window(n: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    positions = np.arange(n)
    return np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, n)


def maximum(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Return the largest of the pixels that are at most `reach` away in each direction, i64[H, W]."""
    extremes = np.empty_like(values)
    ndimage.maximum_filter(values, size=2 * reach + 1, mode="nearest", output=extremes)
    return extremes


def minimum(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Return the smallest of the pixels that are at most `reach` away in each direction, i64[H, W]."""
    extremes = np.empty_like(values)
    ndimage.minimum_filter(values, size=2 * reach + 1, mode="nearest", output=extremes)
    return extremes
