"""Tell the paper from the ink: which is darker, and how light the paper is at each pixel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.preprocessing.resample import LEVEL
from mnist_hpo.preprocessing.windows import box_average, maximum, minimum

_N_LEVELS = 256
_WHITE = (_N_LEVELS - 1) * LEVEL

_BAND = 6
"""Grey levels that differ by at most this are one colour of a drawing."""

_DRAWING_PERCENT = 80
"""A picture is a drawing if so much of it has one of two colours, and half of its paper exactly the same."""

_MAJORITY_PERCENT = 60
"""A colour that so much of a drawing has is its paper, even if the border has the other one."""


class Sheet(NamedTuple):
    """A picture with its paper lighter than its ink, and the lightness of the paper."""

    values: NDArray[np.int64]
    """i64[H, W] in 256ths of a grey level; inverted if the picture is light on dark."""
    paper: NDArray[np.int64]
    """i64[H, W] in 256ths of a grey level."""


def find_paper(values: NDArray[np.int64]) -> Sheet:
    """Invert a picture that is light on dark, and estimate the lightness of its paper below the ink.

    The paper of a drawing has one colour. That of a photograph is a morphological closing of the picture, with a
    window as large as a quarter of it: this fills what is darker and narrower, and keeps the gradients of the light
    and the edges of shadows (Gonzalez and Woods, Digital Image Processing, section 9.6).

    Args:
        values: i64[H, W] in 256ths of a grey level.

    """
    colour = _colour_of_drawing(values)
    if colour is not None:
        inverted = int((values - colour).sum()) > 0
        sheet, level = (_WHITE - values, _WHITE - colour) if inverted else (values, colour)
        return Sheet(sheet, np.full_like(values, level))
    longest = max(values.shape)
    smooth, reach = box_average(values, longest // 256), longest // 8
    if _is_light_on_dark(smooth, reach):
        values, smooth = _WHITE - values, _WHITE - smooth
    return Sheet(values, _closing(smooth, reach))


def _closing(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Fill what is darker than all windows around it; the windows may stand out over the border."""
    height, width = values.shape
    lightest = maximum(np.pad(values, reach), reach)
    return minimum(lightest, reach)[reach : reach + height, reach : reach + width]


def _colour_of_drawing(values: NDArray[np.int64]) -> int | None:
    """Return the colour of a drawing's paper in 256ths of a grey level, or None for a photograph."""
    levels = (values + LEVEL // 2) // LEVEL
    bands = _pixels_in_bands(levels)
    first = int(bands.argmax())
    others = np.where(np.abs(np.arange(_N_LEVELS) - first) > 2 * _BAND, bands, 0)
    second = int(others.argmax())
    if 100 * int(bands[first] + others[second]) < _DRAWING_PERCENT * values.size:
        return None
    border = np.concatenate([levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1]])
    border_bands = _pixels_in_bands(border)
    is_majority = 100 * int(bands[first]) >= _MAJORITY_PERCENT * values.size
    centre = first if is_majority or border_bands[first] >= border_bands[second] else second
    counts = np.bincount(levels.reshape(-1), minlength=_N_LEVELS)
    lowest = max(0, centre - _BAND)
    level = lowest + int(counts[lowest : centre + _BAND + 1].argmax())
    has_grain = 2 * int(counts[level]) < int(bands[centre])
    return None if has_grain else level * LEVEL


def _pixels_in_bands(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels are at most `_BAND` from each grey level, i64[256]."""
    counts = np.bincount(levels.reshape(-1), minlength=_N_LEVELS)
    return np.convolve(counts, np.ones(2 * _BAND + 1, np.int64), mode="same")


def _is_light_on_dark(smooth: NDArray[np.int64], reach: int) -> bool:
    """Return whether most of the surroundings of strokes are darker than the middle between ink and paper."""
    above_middle = 2 * box_average(smooth, reach) - maximum(smooth, reach) - minimum(smooth, reach)
    return int(above_middle.sum()) < 0
