"""The recorded wall-clock timeline of a study, and the breakdown of its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.storage.records import TrialRecord

_PAUSE_S = 30.0
"""If no epoch ran and no trial started for longer than this, the study was not being run."""
_TOGETHER_S = 0.5
"""Epochs of a trial on one worker with a shorter gap are shown as one bar."""


@dataclass(frozen=True)
class WorkerSpan:
    """Consecutive epochs of a trial on one worker."""

    worker: int
    number: int
    start_s: float
    """Seconds of running time since the study's start, without pauses."""
    end_s: float
    first_epoch: int
    last_epoch: int


@dataclass(frozen=True)
class Session:
    """A period in which the study was run without a pause."""

    start_unix_s: float
    end_unix_s: float
    n_workers: int
    """Workers that finished an epoch in it; 0 if unknown."""

    @property
    def seconds(self) -> float:
        """The length of the session."""
        return self.end_unix_s - self.start_unix_s


@dataclass(frozen=True)
class TimeSpent:
    """The workers' time by activity, in seconds."""

    train_s: float
    evaluate_s: float
    compile_s: float
    host_s: float
    """The rest of an epoch: permutations, learning rates, transfers."""
    idle_s: float | None
    """Time in sessions outside of recorded epochs: waiting, starting, saving, and epochs that are not recorded
    (diverged, or computed past a prune). None if unknown."""


def sessions(trials: Sequence[TrialRecord]) -> list[Session]:
    """Return the periods of recorded work without a pause, by wall-clock time."""
    busy = [(trial.started_unix_s, trial.started_unix_s, None) for trial in trials if trial.started_unix_s]
    results = [result for trial in trials for result in trial.epochs.values()]
    busy += [(result.finished_unix_s - result.total_s, result.finished_unix_s, result.worker) for result in results]
    pause_s = max([_PAUSE_S, *(3 * result.total_s for result in results)])
    found: list[Session] = []
    workers: set[int] = set()
    for start, end, worker in sorted(busy, key=lambda interval: interval[:2]):
        if not found or start > found[-1].end_unix_s + pause_s:
            found.append(Session(start, end, 0))
            workers = set()
        if worker is not None:
            workers.add(worker)
        last = found[-1]
        found[-1] = Session(last.start_unix_s, max(last.end_unix_s, end), len(workers))
    return found


def running_s(all_sessions: Sequence[Session], unix_s: float) -> float:
    """Return the seconds that the study had been running at a moment, without pauses."""
    return sum(min(max(unix_s - session.start_unix_s, 0.0), session.seconds) for session in all_sessions)


def worker_spans(trials: Sequence[TrialRecord]) -> list[WorkerSpan]:
    """Return which worker computed which epochs and when; empty for studies of earlier versions without this record."""
    ran = sessions(trials)
    spans: list[WorkerSpan] = []
    for trial in trials:
        for epoch, result in sorted(trial.epochs.items()):
            if result.worker is None:
                continue
            start, end = (
                running_s(ran, at) for at in (result.finished_unix_s - result.total_s, result.finished_unix_s)
            )
            last = spans[-1] if spans else None
            goes_on = last and (last.number, last.worker, last.last_epoch) == (trial.number, result.worker, epoch - 1)
            if last and goes_on and start - last.end_s < _TOGETHER_S:
                spans[-1] = WorkerSpan(last.worker, last.number, last.start_s, end, last.first_epoch, epoch)
            else:
                spans.append(WorkerSpan(result.worker, trial.number, start, end, epoch, epoch))
    return spans


def time_spent(trials: Sequence[TrialRecord]) -> TimeSpent:
    """Return the time of all workers by activity."""
    results = [result for trial in trials for result in trial.epochs.values()]
    total, train, evaluate, compiling = (
        sum(getattr(result, name) for result in results) for name in ("total_s", "train_s", "evaluate_s", "compile_s")
    )
    ran = sessions(trials)
    known = bool(results) and all(result.worker is not None for result in results)
    present_s = sum(session.seconds * session.n_workers for session in ran)
    return TimeSpent(
        train_s=train,
        evaluate_s=evaluate,
        compile_s=compiling,
        host_s=max(total - train - evaluate - compiling, 0.0),
        idle_s=max(present_s - total, 0.0) if known else None,
    )
