"""Ranking of points by several minimised objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = Sequence[float]
"""One value per objective; lower is better."""


def dominates(first: Point, second: Point) -> bool:
    """Return whether the first point is better in at least one objective and worse in none."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Return indices by non-dominated rank: no point dominates the first front; only earlier fronts dominate a later.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002). Within a front, indices are in
    the given order.
    """
    left, found = list(range(len(points))), list[list[int]]()
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        found.append(front)
        left = [i for i in left if i not in front]
    return found


def ranking(points: Sequence[Point]) -> list[int]:
    """Return indices from best to worst: by front, then crowding distance (Deb et al. 2002), then the given order.

    With one objective this is the order of the values.
    """
    order: list[int] = []
    for front in fronts(points):
        crowding = _crowding([points[i] for i in front])
        order += [front[i] for i in sorted(range(len(front)), key=lambda i: -crowding[i])]
    return order


def _crowding(front: Sequence[Point]) -> list[float]:
    """Return the distance between each point's neighbours, relative to each objective's range; infinite at the ends."""
    distances = [0.0] * len(front)
    for objective in range(len(front[0])):
        order = sorted(range(len(front)), key=lambda i: front[i][objective])
        low, high = front[order[0]][objective], front[order[-1]][objective]
        if not low < high or not math.isfinite(high - low):
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, at, after in zip(order, order[1:], order[2:], strict=False):
            distances[at] += (front[after][objective] - front[before][objective]) / (high - low)
    return distances
