"""The policy of a sampler and a pruner: Optuna's, in an in-memory study that is asked and told event by event."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Container, Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_hpo.search.pareto_pruner import ParetoPruner
from mnist_hpo.search.policy import Advice, Finished, Measures, Next, Start
from mnist_hpo.search.proposals import new_optuna_study, propose
from mnist_hpo.search.pruners import decision_epochs, make_pruner
from mnist_hpo.spec.study import Study


class _Ledger(InMemoryStorage):
    """The events so far."""

    _highest: int | None = None

    @contextmanager
    def closed_above(self, number: int) -> Generator[None]:
        """Show no trial with a higher number for a while."""
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


class SamplerPruner:
    """Asks the study's sampler and pruner; see `Policy` for the methods.

    The pruner sees only trials of lower numbers. Trials that a larger budget adds then leave those before as they are:
    a study that is extended has the history of one that was as long from the start.

    Optuna prunes no study of several objectives; `ParetoPruner` does.
    """

    extends_in_place: ClassVar[bool] = True

    def __init__(self, study: Study) -> None:
        self._ledger, self._spec = _Ledger(), study
        self._pareto = ParetoPruner(study) if len(study.objectives) > 1 else None
        pruner = None if self._pareto is not None else make_pruner(study)
        self._study = new_optuna_study(study, storage=self._ledger, pruner=pruner)
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
        with warnings.catch_warnings(), self._ledger.closed_above(trial):
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

        Samplers pass over failed trials and would try the same place again; a pruned trial whose last value is
        infinitely bad is the worst that they can learn of.
        """
        if self._pareto is None:
            self._trials[trial].report(self._spec.objectives[0].sign * math.inf, epoch)
        self.on_stop(trial)
