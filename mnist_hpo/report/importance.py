"""Which hyperparameters mattered: fANOVA, PED-ANOVA and Spearman's rank correlation over the complete trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor

from mnist_hpo.report.scale import fraction, is_ordered, is_single
from mnist_hpo.report.view import StudyView
from mnist_hpo.search.importance import n_top, ped_anova
from mnist_hpo.search.space import distributions
from mnist_hpo.spec.study import CategoricalSpace, Space

MIN_TRIALS = 4
"""Fewer complete trials say nothing about importance."""
_N_TREES = 64

Shares = dict[str, float]
"""By parameter, adding up to 1; empty where nothing can be told."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a parameter with the objective."""

    rho: float
    """Negative: higher values of the parameter go with lower losses."""
    p_value: float


@dataclass(frozen=True)
class Importance:
    """What the complete trials tell of each parameter."""

    fanova: Shares
    ped_anova: Shares
    correlations: dict[str, Correlation]
    """Of the ordered parameters that took more than one value."""
    n_top: int
    """What PED-ANOVA asks of: which parameters decide who is among so many of the best trials."""

    def ranking(self) -> list[str]:
        """Parameters, the most important first: by fANOVA, or by PED-ANOVA where that cannot tell."""
        shares = self.fanova or self.ped_anova
        return sorted(shares, key=lambda name: -shares[name])


def assess(view: StudyView, on_step: Callable[[str], None]) -> Importance:
    """Assess all parameters of a study.

    Args:
        view: the study; fewer than `MIN_TRIALS` complete trials, or equal values, give empty results.
        on_step: told what is being computed.

    """
    values = np.array([trial.value for trial in view.complete], np.float64)
    if len(values) < MIN_TRIALS or np.ptp(values) == 0:
        return Importance({}, {}, {}, n_top(len(values)))
    on_step("fANOVA")
    fanova = fanova_shares(view, values)
    on_step("PED-ANOVA")
    return Importance(fanova, _ped_anova_shares(view), _correlations(view, values), n_top(len(values)))


def fanova_shares(view: StudyView, values: NDArray[np.float64]) -> Shares:
    """The share of each parameter alone in the variance that a random forest sees (Hutter et al., ICML 2014).

    Optuna's evaluator takes minutes for 2,000 trials; the main effects alone, which are all that it reports, follow
    from one pass over the leaves. Parameters are taken on the scale that the study searches.

    Args:
        view: the study.
        values: f64[n_complete], in the order of `view.complete`.

    """
    space = {name: entry for name, entry in view.study.space.items() if not is_single(entry)}
    if not space:
        return {}
    points = np.array([[_unit(entry, t.parameters[name]) for name, entry in space.items()] for t in view.complete])
    forest = RandomForestRegressor(n_estimators=_N_TREES, random_state=0).fit(points, values)
    by_tree = [_main_effects(tree.tree_, points.shape[1]) for tree in forest.estimators_]
    shares = np.mean([effects for effects in by_tree if effects is not None] or [np.zeros(len(space))], axis=0)
    return _normalized(dict(zip(space, shares.tolist(), strict=True)))


def _unit(entry: Space, value: Any) -> float:
    """A point in [0, 1]; each choice of a categorical parameter has an equal part of it, and stands in its middle."""
    if isinstance(entry, CategoricalSpace):
        return (entry.choices.index(value) + 0.5) / len(entry.choices)
    return fraction(entry, value)


def _main_effects(tree: Any, n_parameters: int) -> NDArray[np.float64] | None:
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


def _ped_anova_shares(view: StudyView) -> Shares:
    """How far the best trials' parameters stand out from all trials' (Watanabe et al., IJCAI 2023; Optuna's)."""
    by_name = distributions(view.study.space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        create_trial(state=TrialState.COMPLETE, params=dict(trial.parameters), distributions=by_name, value=trial.value)
        for trial in view.complete
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _normalized(ped_anova(len(view.complete)).evaluate(study))


def _normalized(shares: Shares) -> Shares:
    total = sum(shares.values())
    return {name: float(share / total) for name, share in shares.items()} if total > 0 else {}


def _correlations(view: StudyView, values: NDArray[np.float64]) -> dict[str, Correlation]:
    found: dict[str, Correlation] = {}
    for name, entry in view.study.space.items():
        if is_ordered(entry):
            column = [float(trial.parameters[name]) for trial in view.complete]
            if len(set(column)) > 1:
                result: Any = spearmanr(column, values)
                found[name] = Correlation(float(result.statistic), float(result.pvalue))
    return found
