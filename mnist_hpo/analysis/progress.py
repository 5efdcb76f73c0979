"""The progress of a search: the number of ended trials and the best value after each end of a trial."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.analysis.trial_figures import complete_trials, objective_value
from mnist_hpo.storage.records import TrialRecord, best_of, count_states


@dataclass(frozen=True)
class Step:
    """The state of a search just after a trial ended."""

    ended_unix_s: float
    n_pruned: int
    n_failed: int
    n_complete: int
    best_value: float | None
    """The best value of the complete trials; None before the first."""


def steps(trials: Sequence[TrialRecord]) -> list[Step]:
    """Return a step for each ended trial, ordered by the time of its end, then by number."""
    counts = count_states([])
    ends = [(trial.finished_unix_s, trial.number, trial) for trial in trials if trial.finished_unix_s is not None]
    best: TrialRecord | None = None
    found: list[Step] = []
    for ended_unix_s, _, trial in sorted(ends, key=lambda end: end[:2]):
        counts[trial.state] += 1
        best = best_of([trial] if best is None else [best, trial])
        value = None if best is None else best.value
        found.append(Step(ended_unix_s, counts["pruned"], counts["failed"], counts["complete"], value))
    return found


def best_so_far(trials: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """Return the number of each complete trial, in order, with the best value among it and those before it."""
    complete = sorted(complete_trials(trials), key=lambda trial: trial.number)
    best = itertools.accumulate(complete, lambda first, second: min(first, second, key=_loss))
    return [(trial.number, objective_value(so_far)) for trial, so_far in zip(complete, best, strict=True)]


def _loss(trial: TrialRecord) -> float:
    return trial.minimized_values[0]
