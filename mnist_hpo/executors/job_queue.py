"""The jobs that wait for a worker, and what becomes of a job whose worker dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mnist_hpo.executors.job import Job, JobLost

MAX_ATTEMPTS = 3
"""A job is lost when this many workers in a row die of it without finishing an epoch that none finished before."""

Urgency = tuple[int, int]


@dataclass
class _Attempts:
    """What has become of a training's current job so far."""

    n_deaths: int = 0
    """Workers that died since the last progress."""
    last_epoch: int = 0
    """The last epoch that any of them finished."""


class JobQueue:
    """Jobs by the key of their training; at most one of each training waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Urgency, Job]] = {}
        self._attempts: dict[str, _Attempts] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job, urgency: Urgency) -> None:
        """Let a job wait.

        Of two jobs of one training the longer one waits: it reports the epochs of both.
        """
        if job.key in self._waiting:
            other_urgency, other = self._waiting[job.key]
            urgency, job = min(urgency, other_urgency), max(other, job, key=lambda job: job.last_epoch)
        self._waiting[job.key] = urgency, job

    def cancel(self, key: str) -> None:
        """Forget a training."""
        self._waiting.pop(key, None)
        self._attempts.pop(key, None)

    def choose(self, is_preferred: Callable[[Job], bool], n_candidates: int) -> Job:
        """The most urgent preferred job among the most urgent ones, or else the most urgent one; it keeps waiting."""
        by_urgency = [job for _, job in sorted(self._waiting.values(), key=lambda pair: pair[0])]
        candidates = by_urgency[:n_candidates]
        return next(filter(is_preferred, candidates), candidates[0])

    def remove(self, job: Job) -> None:
        """Stop waiting with a job: a worker has it now."""
        del self._waiting[job.key]

    def epoch_done(self, key: str, epoch: int) -> None:
        """A job has reported an epoch: if none did before, that is progress."""
        attempts = self._attempts.setdefault(key, _Attempts())
        if epoch > attempts.last_epoch:
            self._attempts[key] = _Attempts(last_epoch=epoch)

    def job_done(self, key: str) -> None:
        """A job has ended."""
        self._attempts.pop(key, None)

    def worker_died(self, job: Job, reason: str) -> JobLost | None:
        """Let a job wait for another worker, ahead of all others, or give it up."""
        attempts = self._attempts.setdefault(job.key, _Attempts())
        attempts.n_deaths += 1
        if attempts.n_deaths < MAX_ATTEMPTS:
            self.submit(job, (0, 0))
            return None
        self.cancel(job.key)
        return JobLost(job.key, f"{MAX_ATTEMPTS} workers died of it: {reason}")
