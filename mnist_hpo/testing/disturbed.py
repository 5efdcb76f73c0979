"""An executor that delivers events late, repeatedly and out of order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import Event
from mnist_hpo.executors.protocol import Executor


class DisturbedExecutor:
    """An `Executor` that delays, repeats and reorders the events of another one.

    Args:
        executor: the executor that runs the jobs.
        seed: the seed of the random delays, repetitions and orders.

    """

    def __init__(self, executor: Executor, seed: int) -> None:
        self._executor, self._random = executor, random.Random(seed)
        self._delayed: list[Event] = []

    @property
    def n_workers(self) -> int:
        """See `Executor.n_workers`."""
        return self._executor.n_workers

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        self._executor.submit(job, urgency=urgency)

    def cancel(self, key: str) -> None:
        """See `Executor.cancel`."""
        self._executor.cancel(key)

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """See `Executor.wait`."""
        for event in self._executor.wait(0.0 if self._delayed else timeout_s):
            self._delayed += [event] * self._random.choice((1, 1, 2))
        self._random.shuffle(self._delayed)
        n_now = self._random.randint(0, len(self._delayed))
        now, self._delayed = self._delayed[:n_now], self._delayed[n_now:]
        return now

    def close(self) -> None:
        """See `Executor.close`."""
        self._executor.close()
