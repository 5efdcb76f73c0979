"""The policy of a sampler and a pruner of Optuna, which see every event in an Optuna study in memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Container, Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_hpo.search.decision_epochs import decision_epochs
from mnist_hpo.search.pareto_pruner import ParetoPruner
from mnist_hpo.search.policy import Advice, Finished, Measures, Next, Start
from mnist_hpo.search.proposals import new_optuna_study, propose
from mnist_hpo.search.pruners import make_pruner
from mnist_hpo.spec.study import Study


class _Storage(InMemoryStorage):
    """An Optuna storage in memory that can hide later trials."""

    _highest: int | None = None

    @contextmanager
    def hiding_trials_after(self, number: int) -> Generator[None]:
        """Hide trials with a higher number within the context."""
        self._highest = number
        try:
            yield
        finally:
            self._highest = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `BaseStorage.get_all_trials`."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in trials if self._highest is None or trial.number <= self._highest]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """See `BaseStorage.get_best_trial`. The Wilcoxon pruner compares with this trial."""
        if self._highest is None:
            return super().get_best_trial(study_id)
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        (direction,) = self.get_study_directions(study_id)
        values = [trial.value for trial in complete if trial.value is not None]
        return complete[values.index(max(values) if direction == StudyDirection.MAXIMIZE else min(values))]


class SamplerPruner:
    """Asks the study's sampler and pruner; see `Policy` for the methods.

    The pruner sees only lower-numbered trials. Trials that a larger budget adds therefore do not affect earlier ones:
    an extended study has the same history as one with the larger budget from the start.

    Optuna cannot prune studies with several objectives; `ParetoPruner` prunes those.
    """

    extends_in_place: ClassVar[bool] = True

    def __init__(self, study: Study) -> None:
        self._storage, self._spec = _Storage(), study
        self._pareto = ParetoPruner(study) if len(study.objectives) > 1 else None
        pruner = None if self._pareto is not None else make_pruner(study)
        self._study = new_optuna_study(study, storage=self._storage, pruner=pruner)
        self._trials: dict[int, Trial] = {}
        self._n_started = 0

    @property
    def decision_epochs(self) -> Collection[int]:
        """See `Policy`."""
        return decision_epochs(self._spec)

    def next(self) -> Next:
        """See `Policy`."""
        if self._n_started >= self._spec.budget.n_trials:
            return Finished()
        number = self._n_started
        self._n_started += 1
        trial = self._trials[number] = propose(self._study, self._spec, number)
        return Start(dict(trial.params))

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """See `Policy`."""
        if self._pareto is not None:
            return self._pareto.on_epoch(trial, epoch, measures)
        asked = self._trials[trial]
        asked.report(measures[self._spec.objectives[0].metric], epoch)
        with warnings.catch_warnings(), self._storage.hiding_trials_after(trial):
            warnings.simplefilter("ignore")
            return "stop" if asked.should_prune() else "continue"

    def on_complete(self, trial: int, values: Mapping[str, float]) -> None:
        """See `Policy`."""
        ordered = [values[objective.metric] for objective in self._spec.objectives]
        self._study.tell(self._trials.pop(trial), ordered)

    def on_stop(self, trial: int) -> None:
        """See `Policy`."""
        self._study.tell(self._trials.pop(trial), state=TrialState.PRUNED)

    def on_failure(self, trial: int, epoch: int) -> None:
        """See `Policy`.

        Samplers ignore failed trials and would try the same values again. So they see a pruned trial whose last value
        is infinitely bad.
        """
        if self._pareto is None:
            self._trials[trial].report(self._spec.objectives[0].sign * math.inf, epoch)
        self.on_stop(trial)
