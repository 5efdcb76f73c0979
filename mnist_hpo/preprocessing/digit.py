"""Scale and centre one digit as MNIST's were."""

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.preprocessing.ink import FULL
from mnist_hpo.preprocessing.resample import area_sums
from mnist_hpo.preprocessing.windows import maximum

_SIDE = 28
_LONGEST = 20


def crop_box(ink: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what has at least CROP ink."""
    rows, columns = (np.flatnonzero((ink >= CROP).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

GL,GH=0,255
CROP = FULL // 2

def normalise(ink: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Scale and centre."""
    left, top, right, bottom = crop_box(ink)
    ink = ink[top:bottom, left:right]
    h, w = ink.shape
    longest = max(h, w)
    hh, ww = ((2 * _LONGEST * n + longest) // (2 * longest) or 1 for n in (h, w))
    sums = area_sums(ink, hh, ww)
    peak = int(sums.max())
    pixels = np.clip(((sums * 255 + peak // 2) // peak-GL)*255//(GH-GL),0,255)
    m = int(pixels.sum())
    out = np.zeros((_SIDE, _SIDE), np.uint8)
    oy = _offset(pixels.sum(axis=1), m); ox = _offset(pixels.sum(axis=0), m)
    out[oy : oy + hh, ox : ox + ww] = pixels
    return out

def _offset(sums, m):
    moment = int((sums * np.arange(len(sums))).sum())
    off = -((2 * moment - 27 * m) // (2 * m))
    return min(max(off, 0), _SIDE - len(sums))
