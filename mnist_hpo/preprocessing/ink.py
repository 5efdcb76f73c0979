"""Measure how much ink each pixel of a picture has."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.preprocessing.errors import nothing_written
from mnist_hpo.preprocessing.paper import Sheet

FULL = 4096
"""The ink of a pixel that is fully covered."""

_LOWEST_CONTRAST = FULL // 16
"""Ink that is lighter than this in comparison to the paper is taken for a stain."""


def ink_of(sheet: Sheet) -> NDArray[np.int64]:
    """Return the ink of each pixel, i64[H, W] from 0 to `FULL`.

    The contrast of a pixel is what it lacks to the paper's lightness. Contrast up to what the paper's grain reaches is
    no ink, and that of the darkest twentieth of the strokes is full ink. Values in between are kept, since the
    strokes of MNIST's digits have soft edges.

    Raises:
        ImageError: (no_ink) nothing differs clearly from the paper.

    """
    paper = np.maximum(sheet.paper, 1)
    contrast = np.clip((paper - sheet.values) * FULL // paper, 0, FULL)
    counts = np.bincount(contrast.reshape(-1), minlength=FULL + 1)
    grain = _grain_of(counts)
    threshold = _threshold_of(counts, grain)
    full = threshold + _quantile(counts[threshold:], 19, 20)
    return np.clip((contrast - grain.limit) * FULL // (full - grain.limit), 0, FULL)


class _Grain(NamedTuple):
    centre: int
    """The mean contrast of the paper."""
    deviation: int
    """Its standard deviation."""
    limit: int
    """What it rarely exceeds."""


def _threshold_of(counts: NDArray[np.int64], grain: _Grain) -> int:
    """Return the contrast that separates strokes from paper: the lowest for which they differ clearly.

    Raises:
        ImageError: (no_ink) they do not for any.

    """
    start = max(grain.limit, _LOWEST_CONTRAST // 2)
    while start <= FULL:
        threshold, strokes = _separate(counts, start)
        if strokes - grain.centre >= max(_LOWEST_CONTRAST, 6 * grain.deviation):
            return threshold
        start = 2 * start
    raise nothing_written()


def _grain_of(counts: NDArray[np.int64]) -> _Grain:
    """Return the contrast of the paper itself, from the lower quantiles, which strokes do not reach.

    Of a normal distribution, the quantiles 0.1 and 0.4 are 1.03 standard deviations apart, and the second is 0.25 below
    the mean.
    """
    low, high = _quantile(counts, 1, 10), _quantile(counts, 4, 10)
    deviation = high - low
    centre = high + deviation // 4
    return _Grain(centre, deviation, min(centre + 3 * deviation, FULL - 1))


def _quantile(counts: NDArray[np.int64], share: int, of: int) -> int:
    """Return the lowest value that at least `share / of` of the counted pixels do not exceed."""
    reached = np.cumsum(counts) * of >= int(counts.sum()) * share
    return int(reached.argmax())


def _separate(counts: NDArray[np.int64], threshold: int) -> tuple[int, int]:
    """Return the threshold between paper and strokes, and the mean contrast of the strokes.

    The threshold is the middle of the means of the two classes that it separates (Ridler and Calvard, Picture
    Thresholding Using an Iterative Selection Method, 1978). A low start finds light strokes beside darker specks.
    """
    n_below, below = np.cumsum(counts), np.cumsum(counts * np.arange(len(counts)))
    n_pixels, total = int(n_below[-1]), int(below[-1])
    while True:
        n_low, low = int(n_below[threshold - 1]), int(below[threshold - 1])
        if n_low == n_pixels:
            return threshold, 0
        strokes = (total - low) // (n_pixels - n_low)
        middle = (strokes + low // max(n_low, 1)) // 2
        if middle <= threshold:
            return threshold, strokes
        threshold = middle
