"""The trials that a sampler learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mnist_hpo.search.samplers.coordinates import Coordinates, Vector

PROPOSED_POINT = "proposed_point"
"""The name of Optuna's system attribute with the point that the sampler proposed for a trial."""

_STATES: dict[TrialState, Literal["running", "complete", "incomplete"]] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "incomplete",
}


@dataclass(frozen=True)
class SeenTrial:
    """A trial as it is when the sampler is asked."""

    number: int
    point: Vector
    """As proposed, but with the values that were enqueued."""
    state: Literal["running", "complete", "incomplete"]
    """An incomplete trial is pruned, paused or failed."""
    values: tuple[float, ...]
    """The objectives of a complete trial; maximised ones are negated."""
    last_epoch: int
    """The last epoch that was reported; 0 if none was, as in a study with several objectives."""
    last_value: float
    """The objective after the last epoch, negated if it is maximised; infinite if the trial failed or has none."""


def seen_trials(study: OptunaStudy, cube: Coordinates, asked: int) -> list[SeenTrial]:
    """Return a study's trials by number, without the one for which the sampler is asked."""
    signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in study.directions]
    # Hyperband shows a sampler only the trials of one bracket. The base class's method returns all of them.
    trials = OptunaStudy.get_trials(study, deepcopy=False)
    return [_seen(trial, cube, signs) for trial in trials if trial.number != asked and trial.state in _STATES]


def _seen(trial: FrozenTrial, cube: Coordinates, signs: Sequence[int]) -> SeenTrial:
    last = trial.last_step or 0
    return SeenTrial(
        trial.number,
        _point_of(trial, cube),
        _STATES[trial.state],
        tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=False)),
        last,
        signs[0] * trial.intermediate_values[last] if last else math.inf,
    )


def _point_of(trial: FrozenTrial, cube: Coordinates) -> Vector:
    if PROPOSED_POINT not in trial.system_attrs:
        return cube.point_of(trial.params, None)
    proposed = np.array(trial.system_attrs[PROPOSED_POINT])
    return cube.point_of(trial.params, proposed) if "fixed_params" in trial.system_attrs else proposed


def best_first(trials: Sequence[SeenTrial]) -> list[SeenTrial]:
    """Return trials of one objective: complete ones by value, others by last epoch and then value, failed ones last.

    Equal ones are in the given order. Optuna's TPE ranks trials in this way, too.
    """

    def rank(trial: SeenTrial) -> tuple[int, float, float]:
        if trial.state == "complete":
            return 0, 0, trial.values[0]
        return (1, -trial.last_epoch, trial.last_value) if math.isfinite(trial.last_value) else (2, 0, 0)

    return sorted(trials, key=rank)
