"""Summary figures of a study: its progress and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, TrialState, count_states


@dataclass(frozen=True)
class StudyFigures:
    """The progress of a study, and the recorded work."""

    n_trials: Mapping[TrialState, int]
    """Trials by state; trials of the budget that have not started are in none."""
    n_ended: int
    """Trials that have ended in any way."""
    is_complete: bool
    """Whether every trial of the budget has ended."""
    n_epochs: int
    worker_s: float
    """Seconds of work, added up over all workers."""
    train_s: float
    compile_s: float
    """Seconds of these spent compiling or loading compiled programs."""


def study_figures(study: Study, trials: Sequence[TrialRecord]) -> StudyFigures:
    """Return the figures of a study in any state."""
    n_ended = count_ended(trials)
    results = [result for trial in trials for result in trial.epochs.values()]
    return StudyFigures(
        n_trials=count_states(trials),
        n_ended=n_ended,
        is_complete=n_ended >= study.budget.n_trials,
        n_epochs=len(results),
        worker_s=sum(result.total_s for result in results),
        train_s=sum(result.train_s for result in results),
        compile_s=sum(result.compile_s for result in results),
    )


def count_ended(trials: Sequence[TrialRecord]) -> int:
    """Return how many trials have ended in any way."""
    return sum(trial.has_ended for trial in trials)
