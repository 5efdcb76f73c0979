"""The interface of an executor. `mnist_hpo.testing.executors` is a test suite that every executor must pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import Event


class Executor(Protocol):
    """Runs jobs on workers and reports events.

    A job's results depend on the job alone, never on the worker, on timing or on how often it was tried. Each job that
    is not cancelled ends in one of these ways:

    - `EpochDone` for each of its epochs, and `JobDone` after its checkpoint has been written;
    - `JobLost`, after several workers have died of it without progress in between;
    - `Halted`, if the machine lacks something. Once that is put right, the job can be submitted again.

    Events may arrive late, repeatedly and in any order, also those of one job.
    """

    @property
    def n_workers(self) -> int:
        """The number of workers now."""
        ...

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """Accept a job. Of the jobs that wait, the one with the lowest urgency value should start first."""
        ...

    def cancel(self, key: str) -> None:
        """Drop a training's waiting job. A running one may still report epochs, but not its end."""
        ...

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """Return the events since the last call. If there are none, wait for some, but not much longer than this.

        Raises:
            UserError: workers cannot be started.

        """
        ...

    def close(self) -> None:
        """Stop all workers at once and free all resources. Running jobs are aborted. May be called repeatedly."""
        ...


ExecutorFactory = Callable[[int | None], Executor]
"""Starts an executor with so many workers; None leaves the number to the executor.

May raise `UserError` if its workers cannot be reached.
"""
