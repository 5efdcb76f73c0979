"""When what ran by the clock, as recorded, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.storage.records import TrialRecord

_PAUSE_S = 30.0
"""A longer time in which no epoch was under way and no trial began: nobody was running the study."""
_TOGETHER_S = 0.5
"""Epochs of a trial that follow each other so closely on a worker are shown as one bar."""


@dataclass(frozen=True)
class WorkerSpan:
    """Some epochs of a trial, one after the other on one worker."""

    worker: int
    number: int
    start_s: float
    """Since the study's start, less the pauses before."""
    end_s: float
    first_epoch: int
    last_epoch: int


@dataclass(frozen=True)
class Session:
    """A time in which the study was run, without a pause."""

    start_unix_s: float
    end_unix_s: float
    n_workers: int
    """That finished an epoch in it; 0 where the record does not tell."""

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end_unix_s - self.start_unix_s


@dataclass(frozen=True)
class TimeSpent:
    """Where seconds of workers went."""

    train_s: float
    evaluate_s: float
    compile_s: float
    host_s: float
    """The rest of an epoch: permutations, learning rates, transfers."""
    idle_s: float | None
    """While the study ran and nothing of the record was being computed: waiting, starting up, saving, and epochs that
    are not in the record (diverged ones, those past a prune). None where the record does not tell."""


def sessions(trials: Sequence[TrialRecord]) -> list[Session]:
    """When the study was run, by the clock: stretches of recorded work without a pause."""
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
    """Seconds that the study had been running at a moment: the clock without the pauses."""
    return sum(min(max(unix_s - session.start_unix_s, 0.0), session.seconds) for session in all_sessions)


def worker_spans(trials: Sequence[TrialRecord]) -> list[WorkerSpan]:
    """Who computed what, and when; empty where the record does not tell (studies of earlier versions)."""
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
    """Where all workers' time went."""
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
