"""Find connected strokes, and remove specks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_hpo.preprocessing.errors import nothing_written
from mnist_hpo.preprocessing.ink import FULL
from mnist_hpo.preprocessing.windows import maximum

_SPECK_PERCENT = 3
"""A stroke with less ink than this, in comparison to the one with most, is a speck."""

_SPECK = -1
"""The label of specks."""

_SMALLEST = 50
"""The longer side of a picture, divided by that of the smallest stroke that is not a speck."""

_SMALLEST_INSIDE = 8
"""The longer side of a picture with a frame, divided by that of the smallest stroke inside."""

_MOST_STROKES = 100
"""Of more strokes, as in noise, only those with the most ink are used."""

_EDGE_REACHES = (1, 2, 4, 8)
"""How far the soft edge of a stroke reaches, in steps, so that neighbours share what is between them."""


class Stroke(NamedTuple):
    """Connected ink."""

    label: int
    """Its number in the labels of `find_strokes`."""
    left: int
    top: int
    right: int
    """The first column behind it."""
    bottom: int
    """The first row below it."""
    area: int
    """The number of pixels."""


def find_strokes(ink: NDArray[np.int64]) -> tuple[list[Stroke], NDArray[np.int64]]:
    """Find what is connected, in eight directions, and has at least half of full ink; specks are left out.

    Args:
        ink: i64[H, W] from 0 to `FULL`, at least one of them `FULL`.

    Returns:
        the strokes, labelled from 1 from left to right; and for each pixel the label of its stroke or 0, i64[H, W]. A
        stroke's soft edge has its label, too.

    Raises:
        ImageError: (no_ink) there are only specks.

    """
    labels = np.zeros(ink.shape, np.int64)
    ndimage.label(ink >= FULL // 2, np.ones((3, 3)), labels)
    n_labels = int(labels.max())
    areas = np.bincount(labels.reshape(-1), minlength=n_labels + 1)
    boxes = ndimage.find_objects(labels)
    strokes = [
        Stroke(label, columns.start, rows.start, columns.stop, rows.stop, int(areas[label]))
        for label, (rows, columns) in enumerate(boxes, start=1)
    ]
    strokes = _without_frame(strokes, labels)
    largest = max(stroke.area for stroke in strokes)
    kept = [stroke for stroke in strokes if 100 * stroke.area >= _SPECK_PERCENT * largest]
    kept = sorted(sorted(kept, key=lambda stroke: -stroke.area)[:_MOST_STROKES], key=lambda stroke: stroke[1:])
    longest = max(max(stroke.right - stroke.left, stroke.bottom - stroke.top) for stroke in kept)
    if _SMALLEST * longest < max(ink.shape):
        raise nothing_written()
    numbers = np.full(n_labels + 1, _SPECK)
    numbers[0] = 0
    numbers[[stroke.label for stroke in kept]] = np.arange(1, len(kept) + 1)
    numbered = [stroke._replace(label=number) for number, stroke in enumerate(kept, start=1)]
    return numbered, _with_edges(numbers[labels], ink)


def _without_frame(strokes: list[Stroke], labels: NDArray[np.int64]) -> list[Stroke]:
    """Leave out what lies along half of a side of the picture and reaches another side, if a stroke touches no side.

    This is the frame of a picture, or the table beside a sheet of paper.
    """
    height, width = labels.shape
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    contacts = np.stack([np.bincount(side, minlength=int(labels.max()) + 1) for side in sides])
    touched = np.count_nonzero(contacts, axis=0)
    is_frame = (touched >= 2) & (2 * contacts >= np.array([width, width, height, height])[:, None]).any(axis=0)
    is_inside = any(
        touched[stroke.label] == 0
        and _SMALLEST_INSIDE * max(stroke.right - stroke.left, stroke.bottom - stroke.top) >= max(labels.shape)
        for stroke in strokes
    )
    return [stroke for stroke in strokes if not is_frame[stroke.label]] if is_inside else strokes


def _with_edges(labels: NDArray[np.int64], ink: NDArray[np.int64]) -> NDArray[np.int64]:
    for reach in _EDGE_REACHES:
        labels = np.where((labels == 0) & (ink > 0), maximum(labels, reach), labels)
    return np.maximum(labels, 0)
