"""The jobs that wait for a worker, and how often a job whose worker died is retried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import JobLost

MAX_ATTEMPTS = 3
"""A job is lost when this many workers in a row have died of it without finishing a further epoch."""

Urgency = tuple[int, int]


@dataclass
class _Attempts:
    """The attempts at a training's current job."""

    n_deaths: int = 0
    """Workers that have died since the last progress."""
    last_epoch: int = 0
    """The last epoch that any attempt has finished."""


class JobQueue:
    """The waiting jobs by the key of their training; at most one of each training."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Urgency, Job]] = {}
        self._attempts: dict[str, _Attempts] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job, urgency: Urgency) -> None:
        """Add a job.

        Of two jobs of one training only the longer one is kept: it reports the epochs of both.
        """
        if job.key in self._waiting:
            other_urgency, other = self._waiting[job.key]
            urgency, job = min(urgency, other_urgency), max(other, job, key=lambda job: job.last_epoch)
        self._waiting[job.key] = urgency, job

    def cancel(self, key: str) -> None:
        """Remove a training's job and forget its attempts."""
        self._waiting.pop(key, None)
        self._attempts.pop(key, None)

    def choose(self, is_preferred: Callable[[Job], bool], n_candidates: int) -> Job:
        """Return a preferred job among the most urgent ones, or else the most urgent job. It stays in the queue."""
        by_urgency = [job for _, job in sorted(self._waiting.values(), key=lambda pair: pair[0])]
        candidates = by_urgency[:n_candidates]
        return next(filter(is_preferred, candidates), candidates[0])

    def remove(self, job: Job) -> None:
        """Remove a job that a worker has started."""
        del self._waiting[job.key]

    def epoch_done(self, key: str, epoch: int) -> None:
        """Note that a job has reported an epoch. An epoch that no attempt has reported before is progress."""
        attempts = self._attempts.setdefault(key, _Attempts())
        if epoch > attempts.last_epoch:
            self._attempts[key] = _Attempts(last_epoch=epoch)

    def job_done(self, key: str) -> None:
        """Forget the attempts of a job that has ended."""
        self._attempts.pop(key, None)

    def worker_died(self, job: Job, reason: str) -> JobLost | None:
        """Put the job of a dead worker back, ahead of all others. After `MAX_ATTEMPTS` without progress, drop it."""
        attempts = self._attempts.setdefault(job.key, _Attempts())
        attempts.n_deaths += 1
        if attempts.n_deaths < MAX_ATTEMPTS:
            self.submit(job, (0, 0))
            return None
        self.cancel(job.key)
        return JobLost(job.key, f"{MAX_ATTEMPTS} workers died of it: {reason}")
