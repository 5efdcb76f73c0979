"""The selection of NSGA-III, which spreads points over reference directions. See `Nsga3Sampler` for the source."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.search.pareto import Point, fronts

Matrix = NDArray[np.float64]


def spread_selection(points: Sequence[Point], n: int, n_divisions: int) -> list[int]:
    """Return the indices of n points, or all: whole fronts, and those of the next that fill the emptiest niches.

    A niche holds the points nearest to one reference direction. Where the published algorithm draws at random, this
    takes the first direction and the nearest point.
    """
    chosen, last = list[int](), list[int]()
    for front in fronts(points):
        last = front
        if len(chosen) + len(front) > n:
            break
        chosen += front
    else:
        return chosen
    pool = [*chosen, *last]
    niches, distances = _niches(np.array([points[i] for i in pool]), reference_directions(len(points[0]), n_divisions))
    counts = np.bincount(niches[: len(chosen)], minlength=int(niches.max()) + 1)
    left = list(range(len(chosen), len(pool)))
    while len(chosen) < n:
        # The emptiest niche, then the first one, then the nearest point.
        best = min(left, key=lambda i: (counts[niches[i]], niches[i], distances[i]))
        left.remove(best)
        counts[niches[best]] += 1
        chosen.append(pool[best])
    return chosen


def reference_directions(n_objectives: int, n_divisions: int) -> Matrix:
    """Return directions (shape (r, m)) whose coordinates are multiples of 1 / n_divisions with the sum 1.

    Das and Dennis, "Normal-Boundary Intersection" (1998).
    """
    bars = combinations(range(n_divisions + n_objectives - 1), n_objectives - 1)
    ends = np.array([(-1, *bar, n_divisions + n_objectives - 1) for bar in bars])
    return (np.diff(ends, axis=1) - 1) / n_divisions


def _niches(points: Matrix, directions: Matrix) -> tuple[NDArray[np.intp], Matrix]:
    """Return for each point (shape (n, m)) the index of the nearest direction, and the distance to it (shapes (n,))."""
    scaled = _normalized(points)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = scaled @ unit.T
    squares = (scaled**2).sum(axis=1, keepdims=True) - along**2
    nearest = np.argmin(squares, axis=1)
    return nearest, np.sqrt(np.maximum(squares[np.arange(len(points)), nearest], 0))


def _normalized(points: Matrix) -> Matrix:
    """Return points less the lowest coordinates, divided by where the plane through their extremes meets the axes."""
    shifted = points - points.min(axis=0)
    n_objectives = points.shape[1]
    weights = np.where(np.eye(n_objectives, dtype=bool), 1.0, 1e6)
    extremes = shifted[[int(np.argmin((shifted * weight).max(axis=1))) for weight in weights]]
    largest = shifted.max(axis=0)
    try:
        with np.errstate(divide="ignore"):
            intercepts = 1 / np.linalg.solve(extremes, np.ones(n_objectives))
    except np.linalg.LinAlgError:
        intercepts = largest
    usable = np.isfinite(intercepts) & (intercepts > 1e-12)
    intercepts = np.where(usable, intercepts, largest)
    return shifted / np.where(intercepts > 0, intercepts, 1)
