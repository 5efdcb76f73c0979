"""The study as virtual time sees it: an in-memory Optuna study that is asked, told and replayed event by event."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_hpo.search.pruners import make_pruner
from mnist_hpo.search.samplers import make_sampler
from mnist_hpo.search.space import distributions
from mnist_hpo.spec.study import ParameterValue, Study


@dataclass(frozen=True)
class Proposal:
    """What the sampler proposes for a trial."""

    number: int
    parameters: dict[str, ParameterValue]
    """The searched hyperparameters only."""
    distributions: dict[str, BaseDistribution]


class _Ledger(InMemoryStorage):
    """The events so far."""

    _youngest: int | None = None

    @contextmanager
    def closed_above(self, number: int) -> Generator[None]:
        """Show no trial with a higher number for a while."""
        self._youngest = number
        try:
            yield
        finally:
            self._youngest = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `BaseStorage.get_all_trials`."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in trials if self._youngest is None or trial.number <= self._youngest]


class AskTell:
    """Asks the study's sampler and pruner, which see exactly the events so far, in the order in which they are told.

    That is also so in a replay, when the durable record knows already what came later. The pruner judges a trial by
    its elders alone, the trials of lower numbers: trials that a larger budget adds then leave those before as they
    are, and a study that is extended has the history of one that was as long from the start.
    """

    def __init__(self, study: Study) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._ledger = _Ledger()
        self._spec = study
        self._distributions = distributions(study.space)
        self._study = optuna.create_study(
            storage=self._ledger, study_name=study.name, direction="minimize", pruner=make_pruner(study)
        )
        self._trials: dict[int, Trial] = {}
        self._n_asked = 0

    @property
    def n_asked(self) -> int:
        """Trials asked for so far."""
        return self._n_asked

    def ask(self) -> Proposal:
        """Start the next trial: one of the file's `enqueue`, then the sampler's."""
        number = self._n_asked
        self._n_asked += 1
        self._study.sampler = make_sampler(self._spec, number)
        if number < len(self._spec.enqueue):
            first = self._spec.enqueue[number]
            self._study.enqueue_trial({name: first[name] for name in self._distributions if name in first})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(fixed_distributions=self._distributions)
        assert trial.number == number
        self._trials[number] = trial
        return Proposal(number, dict(trial.params), self._distributions)

    def report(self, number: int, epoch: int, valid_loss: float) -> bool:
        """Report an epoch, counted from 1; return whether the pruner ends the trial here."""
        trial = self._trials[number]
        trial.report(valid_loss, epoch)
        with warnings.catch_warnings(), self._ledger.closed_above(number):
            warnings.simplefilter("ignore")
            return trial.should_prune()

    def complete(self, number: int, value: float) -> None:
        """Tell that a trial went to its end, with this objective value."""
        self._study.tell(self._trials.pop(number), value)

    def prune(self, number: int) -> None:
        """Tell that a trial was pruned after its last report."""
        self._study.tell(self._trials.pop(number), state=TrialState.PRUNED)

    def fail(self, number: int, epoch: int) -> None:
        """Tell that a trial failed in this epoch.

        Samplers pass over failed trials and would try the same place again; a pruned trial whose last loss is
        infinite is the worst that they can learn of.
        """
        self._trials[number].report(math.inf, epoch)
        self.prune(number)
