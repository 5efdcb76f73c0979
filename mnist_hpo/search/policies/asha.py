"""Asynchronous successive halving with promotion (ASHA).

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020), algorithm 2. Every trial pauses at each
rung. A paused trial can be promoted if it is among the best 1 / `reduction_factor` of all trials that have reached the
rung. A free slot resumes the best such trial of the highest rung that has one, else starts a new trial. With several
objectives, trials are ranked by non-dominated rank and crowding distance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from optuna.trial import FrozenTrial, TrialState, create_trial

from mnist_hpo.search.decision_epochs import rungs
from mnist_hpo.search.options import integer_options
from mnist_hpo.search.pareto import Point, ranking
from mnist_hpo.search.policy import Advice, Finished, Measures, Next, Resume, Start, Wait
from mnist_hpo.search.proposals import new_optuna_study, propose
from mnist_hpo.search.space import distributions_of
from mnist_hpo.spec.study import ParameterValue, Study

DEFAULT_OPTIONS = {"min_resource": 1, "reduction_factor": 3}


@dataclass
class _Trial:
    parameters: Mapping[str, ParameterValue]
    system_attributes: Mapping[str, Any]
    """Optuna's system attributes of the trial, such as its index in a grid."""
    state: Literal["running", "paused", "complete", "failed"] = "running"
    reported: dict[int, Point] = field(default_factory=dict[int, Point])
    """The objectives by epoch, in the order of the study file; maximised ones are not negated."""
    values: Point = ()
    """The objectives of a complete trial."""


class Asha:
    """See `Policy` for the methods.

    Options: `min_resource`, the epochs of the first rung, and `reduction_factor`.
    """

    extends_in_place: ClassVar[bool] = False

    def __init__(self, study: Study) -> None:
        assert study.policy is not None
        options = integer_options(study.policy.options, **DEFAULT_OPTIONS)
        self._spec, self._factor = study, options["reduction_factor"]
        epochs = rungs(options["min_resource"], self._factor, study.budget.max_epochs - 1)
        self._rungs: dict[int, dict[int, Point]] = {epoch: {} for epoch in epochs}
        """By epoch, by trial: the objectives; maximised ones are negated."""
        self._promoted: dict[int, set[int]] = {epoch: set() for epoch in epochs}
        self._trials: list[_Trial] = []

    @property
    def decision_epochs(self) -> Collection[int]:
        """See `Policy`."""
        return self._rungs.keys()

    def next(self) -> Next:
        """See `Policy`."""
        for epoch in reversed(self._rungs):
            promotable = self._promotable(epoch)
            if promotable is not None:
                self._promoted[epoch].add(promotable)
                self._trials[promotable].state = "running"
                return Resume(promotable)
        if len(self._trials) < self._spec.budget.n_trials:
            trial = self._propose()
            self._trials.append(trial)
            return Start(trial.parameters)
        is_running = any(trial.state == "running" for trial in self._trials)
        return Wait() if is_running else Finished()

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """See `Policy`."""
        point = [measures[objective.metric] for objective in self._spec.objectives]
        self._trials[trial].reported[epoch] = point
        if epoch not in self._rungs:
            return "continue"
        signs = [objective.sign for objective in self._spec.objectives]
        self._rungs[epoch][trial] = [sign * value for sign, value in zip(signs, point, strict=True)]
        self._trials[trial].state = "paused"
        return "pause"

    def on_complete(self, trial: int, values: Mapping[str, float]) -> None:
        """See `Policy`."""
        self._trials[trial].state = "complete"
        self._trials[trial].values = [values[objective.metric] for objective in self._spec.objectives]

    def on_stop(self, trial: int) -> None:
        """See `Policy`. This policy prunes no trial."""
        raise AssertionError

    def on_failure(self, trial: int, epoch: int) -> None:
        """See `Policy`. A failed trial counts as the worst in the rung that it would have reached."""
        self._trials[trial].state = "failed"
        rung = next((rung for rung in self._rungs if rung >= epoch), None)
        if rung is not None:
            self._rungs[rung][trial] = [math.inf] * len(self._spec.objectives)

    def _promotable(self, epoch: int) -> int | None:
        """Return the best trial of a rung that can be promoted and has not been, or None."""
        rung = self._rungs[epoch]
        numbers = sorted(rung)
        n_best = len(numbers) // self._factor
        best = [numbers[index] for index in ranking([rung[number] for number in numbers])[:n_best]] if n_best else []
        waiting = (number for number in best if number not in self._promoted[epoch])
        return next((number for number in waiting if self._trials[number].state == "paused"), None)

    def _propose(self) -> _Trial:
        """Ask the sampler for the next trial. It sees paused trials as pruned.

        A trial may continue after the sampler has seen it, so each call passes all trials to a new Optuna study.
        """
        study = new_optuna_study(self._spec)
        for trial in self._trials:
            study.add_trial(self._as_optuna_trial(trial))
        propose(study, self._spec, len(self._trials))
        proposed = study.get_trials(deepcopy=False)[-1]
        return _Trial(proposed.params, proposed.system_attrs)

    def _as_optuna_trial(self, trial: _Trial) -> FrozenTrial:
        states = {"running": TrialState.RUNNING, "complete": TrialState.COMPLETE}
        reported = {epoch: point[0] for epoch, point in trial.reported.items()}
        if trial.state == "failed":
            reported[len(reported) + 1] = self._spec.objectives[0].sign * math.inf
        return create_trial(
            state=states.get(trial.state, TrialState.PRUNED),
            values=list(trial.values) or None,
            params=dict(trial.parameters),
            distributions=distributions_of(trial.parameters, self._spec.space),
            system_attrs=dict(trial.system_attributes),
            intermediate_values=reported if len(self._spec.objectives) == 1 else {},
        )


POLICY = Asha
