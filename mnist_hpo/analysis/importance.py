"""Hyperparameter importance: fANOVA, PED-ANOVA and Spearman's rank correlation over the complete trials."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState, create_trial
from scipy.stats import spearmanr

from mnist_hpo.analysis.fanova import main_effects
from mnist_hpo.analysis.scale import fraction, is_ordered, is_single
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import objective_value, with_parameters
from mnist_hpo.search.space import distributions
from mnist_hpo.spec.study import CategoricalSpace, ParameterValue, Space

MIN_TRIALS = 4
"""The fewest complete trials from which importances are estimated."""
SIGNIFICANT_P = 0.05
"""A correlation with a lower p-value is significant."""
_MIN_TOP = 5
"""PED-ANOVA needs at least this many top trials (Optuna's documentation)."""

Shares = dict[str, float]
"""The share of each hyperparameter; the shares sum to 1. Empty if there are too few trials to estimate them."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a hyperparameter with the objective, over the trials that have it."""

    rho: float
    """If negative, higher values of the hyperparameter go with lower losses."""
    p_value: float


@dataclass(frozen=True)
class Importance:
    """The importance of each hyperparameter, estimated from the complete trials."""

    fanova: Shares
    """Only the hyperparameters that all of them have."""
    ped_anova: Shares
    """All hyperparameters, including conditional ones."""
    correlations: dict[str, Correlation]
    """Only ordered hyperparameters with more than one value."""
    n_top: int
    """Number of best trials that PED-ANOVA compares with all trials."""

    @property
    def shares(self) -> Shares:
        """The shares by fANOVA, or by PED-ANOVA if fANOVA has none."""
        return self.fanova or self.ped_anova

    def ranking(self) -> list[str]:
        """Return the hyperparameters by `shares`, the most important first, then those that only PED-ANOVA covers."""
        first = sorted(self.shares, key=lambda name: -self.shares[name])
        others = [name for name, share in self.ped_anova.items() if share > 0 and name not in self.shares]
        return first + sorted(others, key=lambda name: -self.ped_anova[name])


def assess(view: StudyView, on_step: Callable[[str], None] = lambda _step: None) -> Importance:
    """Estimate the importance of all hyperparameters of a study.

    Args:
        view: the study. With fewer than `MIN_TRIALS` complete trials, or equal values, the results are empty.
        on_step: a callback with the name of each step before it starts.

    """
    values = np.array([objective_value(trial) for trial in view.complete], np.float64)
    if len(values) < MIN_TRIALS or np.ptp(values) == 0:
        return Importance({}, {}, {}, n_top(len(values)))
    on_step("fANOVA")
    fanova = _fanova_shares(view, values)
    on_step("PED-ANOVA")
    return Importance(fanova, _ped_anova_shares(view), _correlations(view), n_top(len(values)))


def n_top(n_complete: int) -> int:
    """Return how many of the complete trials PED-ANOVA takes as the best: a tenth, or a larger share of few."""
    return min(max(math.ceil(n_complete / 10), _MIN_TOP), math.ceil(n_complete / 2))


def _fanova_shares(view: StudyView, values: NDArray[np.float64]) -> Shares:
    """Return shares for the hyperparameters that every complete trial has, on the scale that the study searches.

    The forest needs a value of each hyperparameter for each trial, so conditional ones are left out.
    """
    space = {
        name: entry for name, entry in view.study.space.items() if not is_single(entry) and name not in view.conditional
    }
    if not space:
        return {}
    points = np.array(
        [[_unit_position(entry, t.parameters[name]) for name, entry in space.items()] for t in view.complete]
    )
    return _normalized(dict(zip(space, main_effects(points, values).tolist(), strict=True)))


def _unit_position(entry: Space, value: ParameterValue) -> float:
    """Return a value scaled to [0, 1]; categorical choices are at the centres of equal parts."""
    if isinstance(entry, CategoricalSpace):
        return (entry.choices.index(value) + 0.5) / len(entry.choices)
    return fraction(entry, value)


def _ped_anova_shares(view: StudyView) -> Shares:
    """Return how far the best trials' distributions differ from all trials' (Watanabe, Bansal & Hutter, IJCAI 2023).

    Optuna's evaluator compares a conditional hyperparameter among the trials that have it (KDD 2026).
    """
    by_name = distributions(view.study.space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        create_trial(
            state=TrialState.COMPLETE,
            params=dict(trial.parameters),
            distributions={name: by_name[name] for name in trial.parameters},
            value=objective_value(trial),
        )
        for trial in view.complete
    )
    n_complete = len(view.complete)
    # Optuna rounds up to whole trials. Subtracting half a trial avoids one too many from an inexact division.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(n_top(n_complete) - 0.5) / n_complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _normalized(evaluator.evaluate(study))


def _normalized(shares: Mapping[str, float]) -> Shares:
    total = sum(shares.values())
    return {name: float(share / total) for name, share in shares.items()} if total > 0 else {}


def _correlations(view: StudyView) -> dict[str, Correlation]:
    found: dict[str, Correlation] = {}
    for name, entry in view.study.space.items():
        having = with_parameters(view.complete, name)
        if not is_ordered(entry) or len(having) < MIN_TRIALS:
            continue
        column = [float(trial.parameters[name]) for trial in having]
        values = [objective_value(trial) for trial in having]
        if len(set(column)) > 1 and len(set(values)) > 1:
            result: Any = spearmanr(column, values)
            found[name] = Correlation(float(result.statistic), float(result.pvalue))
    return found
