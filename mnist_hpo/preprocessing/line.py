"""Group the strokes of a line of writing to digits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.preprocessing.strokes import Stroke


class _Part(NamedTuple):
    """Strokes of one digit, or of several that touch."""

    strokes: tuple[Stroke, ...]
    left: int
    right: int
    """The first column behind it."""
    height: int


def number_digits(strokes: list[Stroke], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group strokes to digits, cut digits that touch, and number them from left to right.

    Strokes above each other are one digit. A low stroke, such as the bar of a 5, belongs to the nearest digit if there
    is one beside it. What is wider than any digit is cut where it has the least ink.

    Args:
        strokes: all strokes.
        labels: the label of each pixel's stroke, i64[H, W], as of `find_strokes`.

    Returns:
        the number of each pixel's digit, from 1, or 0, i64[H, W].

    """
    height = max(stroke.bottom - stroke.top for stroke in strokes)
    parts = _merge_low(_merge_stacked([_part(stroke) for stroke in strokes]), height)
    first_numbers, later = np.zeros(len(strokes) + 1, np.int64), np.zeros_like(labels)
    next_number = 1
    for part in sorted(parts, key=lambda part: (part.left + part.right, part.left)):
        part_labels = [stroke.label for stroke in part.strokes]
        first_numbers[part_labels] = next_number
        cuts = _cuts(part, labels, height)
        for cut in cuts:
            later[:, cut:] += np.isin(labels[:, cut:], part_labels)
        next_number += 1 + len(cuts)
    return first_numbers[labels] + later


def _part(*strokes: Stroke) -> _Part:
    left, right = min(stroke.left for stroke in strokes), max(stroke.right for stroke in strokes)
    height = max(stroke.bottom for stroke in strokes) - min(stroke.top for stroke in strokes)
    return _Part(strokes, left, right, height)


def _merge_stacked(parts: list[_Part]) -> list[_Part]:
    """Merge parts of which the narrower shares at least half of its columns with the other."""
    merged: list[_Part] = []
    for part in sorted(parts, key=lambda part: part.left):
        for index, other in enumerate(merged):
            if 2 * -_gap(part, other) >= min(part.right - part.left, other.right - other.left):
                merged[index] = _part(*other.strokes, *part.strokes)
                break
        else:
            merged.append(part)
    return merged if len(merged) == len(parts) else _merge_stacked(merged)


def _gap(part: _Part, other: _Part) -> int:
    """Return the columns between two parts; if they share columns, minus their number."""
    return max(part.left, other.left) - min(part.right, other.right)


def _merge_low(parts: list[_Part], height: int) -> list[_Part]:
    """Merge parts that are lower than half of the line's height with the nearest that is not; leave out lone dots."""
    high = [part for part in parts if 2 * part.height >= height]
    for part in parts:
        if 2 * part.height >= height:
            continue
        nearest = min(range(len(high)), key=lambda index: _gap(part, high[index]))
        if 5 * _gap(part, high[nearest]) < height:
            high[nearest] = _part(*high[nearest].strokes, *part.strokes)
        elif 3 * max(part.height, part.right - part.left) >= height:
            high.append(part)
    return high


def _cuts(part: _Part, labels: NDArray[np.int64], height: int) -> list[int]:
    """Return the columns where a part wider than 1.25 times the line's height is cut.

    Its digits are assumed to be about 0.75 times as wide as the line is high.
    """
    width = part.right - part.left
    if 4 * width <= 5 * height:
        return []
    n_digits = max(2, (8 * width + 3 * height) // (6 * height))
    is_part = np.isin(labels[:, part.left : part.right], [stroke.label for stroke in part.strokes])
    counts, reach = np.count_nonzero(is_part, axis=0), width // (3 * n_digits)
    starts = [cut * width // n_digits - reach for cut in range(1, n_digits)]
    return [part.left + start + int(counts[start : start + 2 * reach + 1].argmin()) for start in starts]
