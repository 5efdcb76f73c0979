"""Scale and centre one digit as MNIST's were (LeCun, Cortes and Burges, The MNIST Database of Handwritten Digits)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.preprocessing.ink import FULL
from mnist_hpo.preprocessing.resample import area_sums
from mnist_hpo.preprocessing.windows import maximum

_SIDE = 28
_LONGEST = 20
_WHITE = 255

_EDGE = FULL * 2 // 5
"""The ink at the edge of a digit's box."""


class Box(NamedTuple):
    """A part of a picture in pixels."""

    left: int
    top: int
    right: int
    """The first column behind it."""
    bottom: int
    """The first row below it."""


def box_of(ink: NDArray[np.int64]) -> Box:
    """Return the box of the ink i64[H, W], without its softest edge."""
    rows, columns = (np.flatnonzero((ink >= _EDGE).any(axis=axis)) for axis in (1, 0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def as_mnist(ink: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the digit of which this is the ink, u8[28, 28]: its strokes light, and at least 255 once.

    The box of the ink is scaled so that its longer side has 20 pixels, by exact area averages, and moved by whole
    pixels so that its centre of mass is nearest to pixel (14, 14).

    Args:
        ink: i64[H, W] from 0 to `FULL`, at least one of them `FULL`.

    """
    ink = _cropped(_thick_enough(_cropped(ink)))
    longest = max(ink.shape)
    height, width = (max(1, (2 * _LONGEST * n + longest) // (2 * longest)) for n in ink.shape)
    sums = area_sums(ink, height, width)
    most = int(sums.max())
    pixels = (sums * _WHITE + most // 2) // most
    top, left = (_first(pixels.sum(axis=axis)) for axis in (1, 0))
    digit = np.zeros((_SIDE, _SIDE), np.uint8)
    digit[top : top + height, left : left + width] = pixels
    return digit


def _cropped(ink: NDArray[np.int64]) -> NDArray[np.int64]:
    box = box_of(ink)
    return ink[box.top : box.bottom, box.left : box.right]


def _thick_enough(ink: NDArray[np.int64]) -> NDArray[np.int64]:
    """Widen strokes that would be narrower than 1 pixel to about 1.6 pixels, which is usual for thin digits of MNIST.

    The width of strokes is twice their area over the length of their outline.
    """
    longest = max(ink.shape)
    strokes = np.pad(ink >= FULL // 2, 1)
    area = int(np.count_nonzero(strokes))
    outline = sum(int(np.count_nonzero(np.diff(strokes, axis=axis))) for axis in (0, 1))
    if 2 * area * _LONGEST >= longest * outline:
        return ink
    reach = (8 * longest * outline - 200 * area + 100 * outline) // (200 * outline)
    return maximum(np.pad(ink, reach), reach)


def _first(sums: NDArray[np.int64]) -> int:
    """Return where the first of these rows or columns is placed, from their sums."""
    mass, moment = int(sums.sum()), int((sums * np.arange(len(sums))).sum())
    nearest = -((2 * moment - (_SIDE - 1) * mass) // (2 * mass))
    return min(max(nearest, 0), _SIDE - len(sums))
