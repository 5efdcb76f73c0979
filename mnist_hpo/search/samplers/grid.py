"""The grid sampler: each point of the grid once, in an order that depends on the study's seed."""

from __future__ import annotations

from typing import Any

from optuna.samplers import GridSampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState


class WholeGridSampler(GridSampler):
    """Optuna's grid sampler, but it does not stop the study after the last point: the budget does that."""

    def after_trial(self, study: OptunaStudy, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """See `BaseSampler.after_trial`."""
        return
