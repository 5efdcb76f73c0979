"""fANOVA: the share of each parameter alone in the variance of a result (Hutter, Hoos & Leyton-Brown, ICML 2014).

Optuna's evaluator takes minutes for 2,000 trials; the main effects alone, which are all that it reports, follow from
one pass over the leaves of the forest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

_N_TREES = 64


def main_effects(points: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each parameter alone in the variance that a random forest sees.

    Args:
        points: f64[n, n_parameters], in the unit cube.
        values: f64[n].

    Returns:
        f64[n_parameters]: zeros where no tree of the forest sees a difference.

    """
    forest = RandomForestRegressor(n_estimators=_N_TREES, random_state=0).fit(points, values)
    by_tree = [_effects_in(tree.tree_, points.shape[1]) for tree in forest.estimators_]
    return np.mean([effects for effects in by_tree if effects is not None] or [np.zeros(points.shape[1])], axis=0)


def _effects_in(tree: Any, n_parameters: int) -> NDArray[np.float64] | None:
    """The variance of each parameter's marginal as a share of the tree's variance; None where the tree is constant."""
    lows, highs, values = _leaves(tree, n_parameters)
    widths = highs - lows
    volumes = widths.prod(axis=1)
    mean = volumes @ values
    variance = volumes @ (values - mean) ** 2
    if variance <= 0:
        return None
    effects = np.zeros(n_parameters)
    for parameter in range(n_parameters):
        # The marginal is a step function: each leaf adds its value times its other sides' volume from low to high.
        heights = values * volumes / widths[:, parameter]
        steps, places = np.unique(np.concatenate([lows[:, parameter], highs[:, parameter]]), return_inverse=True)
        changes = np.bincount(places, weights=np.concatenate([heights, -heights]))
        marginal = np.cumsum(changes)[:-1]
        effects[parameter] = np.diff(steps) @ (marginal - mean) ** 2 / variance
    return effects


def _leaves(tree: Any, n_parameters: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A tree's leaves as boxes in the unit cube: lows and highs f64[n_leaves, n_parameters], values f64[n_leaves]."""
    lows, highs = np.zeros((tree.node_count, n_parameters)), np.ones((tree.node_count, n_parameters))
    for node in range(tree.node_count):  # a child has a higher number than its parent
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            continue
        for child in (left, right):
            lows[child], highs[child] = lows[node], highs[node]
        highs[left, tree.feature[node]] = lows[right, tree.feature[node]] = tree.threshold[node]
    is_leaf = tree.children_left < 0
    return lows[is_leaf], highs[is_leaf], tree.value[is_leaf, 0, 0]
