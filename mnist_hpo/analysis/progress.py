"""How a search went: what had ended, and what the best was, after each end of a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.analysis.trial_figures import complete_trials, objective_value
from mnist_hpo.storage.records import TrialRecord, TrialState


@dataclass(frozen=True)
class Step:
    """A search when a trial had just ended."""

    ended_unix_s: float
    n_pruned: int
    n_failed: int
    n_complete: int
    best_value: float | None
    """The lowest value of the complete trials; None before the first."""


def steps(trials: Sequence[TrialRecord]) -> list[Step]:
    """A step for each trial that has ended, in the order of their ends by the clock; of equals, by number."""
    counts: dict[TrialState, int] = {"complete": 0, "pruned": 0, "failed": 0, "running": 0}
    ends = [(trial.finished_unix_s, trial.number, trial) for trial in trials if trial.finished_unix_s is not None]
    best: float | None = None
    found: list[Step] = []
    for ended_unix_s, _, trial in sorted(ends, key=lambda end: end[:2]):
        counts[trial.state] += 1
        if complete_trials([trial]):
            value = objective_value(trial)
            best = value if best is None else min(best, value)
        found.append(Step(ended_unix_s, counts["pruned"], counts["failed"], counts["complete"], best))
    return found


def best_so_far(trials: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """The number of each complete trial, in order, and the lowest value among it and those before it."""
    complete = sorted(complete_trials(trials), key=lambda trial: trial.number)
    found: list[tuple[int, float]] = []
    for trial in complete:
        value = objective_value(trial)
        found.append((trial.number, min(value, found[-1][1]) if found else value))
    return found
