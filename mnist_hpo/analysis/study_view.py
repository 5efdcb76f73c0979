"""A study's record, read once, with the properties that several tables and figures need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mnist_hpo.analysis.trial_figures import ranked
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, TrialState, best_of, state_name


@dataclass(frozen=True)
class StudyView:
    """A study as recorded in its storage."""

    study: Study
    study_file: str
    """The text of the study file of the last run."""
    context: Mapping[str, str]
    """The provenance: dataset digest, versions, CPU."""
    trials: tuple[TrialRecord, ...]
    """All trials in the order of their numbers, without gaps."""
    is_running: bool = True
    """Whether a coordinator runs the study now."""

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The complete trials, the best first."""
        return ranked(self.trials)

    @cached_property
    def best(self) -> TrialRecord | None:
        """The best trial; see `best_of`."""
        return best_of(self.trials)

    @cached_property
    def conditional(self) -> list[str]:
        """The searched hyperparameters that some complete trial does not have."""
        return [name for name in self.study.space if any(name not in trial.parameters for trial in self.complete)]

    def is_best(self, trial: TrialRecord) -> bool:
        """Return whether this is the best trial."""
        return self.best is not None and trial.number == self.best.number

    def state_name(self, state: TrialState) -> str:
        """Return the name of a state; running trials are "interrupted" if no coordinator runs the study."""
        return state_name(state, is_running=self.is_running)
