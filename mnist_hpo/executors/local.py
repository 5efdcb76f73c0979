"""Worker processes on this machine: one pinned to each core, started anew where one dies."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.executors.job import (
    Event,
    Halted,
    Job,
    JobDone,
    JobLost,
    WorkerReady,
    decode_message,
    encode_job,
)
from mnist_hpo.spec.errors import UserError
from mnist_hpo.training.hyperparameters import Program, split

MAX_ATTEMPTS = 3
"""A job that takes so many workers down is lost."""


def usable_cores() -> list[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class _Worker:
    child: ChildProcess
    lifeline: int
    """The coordinator's end of a pipe that closes when the coordinator dies."""
    ready: bool = False
    job: Job | None = None
    last_words: str | None = None
    programs: set[Program] = field(default_factory=set[Program])


class LocalExecutor:
    """An `Executor` over worker processes.

    Args:
        n_workers: how many; by default one on each usable core.

    """

    def __init__(self, n_workers: int | None = None) -> None:
        self._cores = usable_cores()
        self._pending: dict[str, tuple[tuple[int, int], Job]] = {}
        self._attempts: Counter[str] = Counter()
        self._events: list[Event] = []
        self._n_failed_starts = 0
        self._workers = [self._start(index) for index in range(n_workers or len(self._cores))]

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        self._pending[job.key] = (urgency, job)
        self._hand_out()

    def cancel(self, key: str) -> None:
        """See `Executor.cancel`."""
        self._pending.pop(key, None)

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """See `Executor.wait`."""
        if not self._events:
            by_connection = {worker.child.connection: index for index, worker in enumerate(self._workers)}
            for ready in wait(list(by_connection), timeout_s):
                assert isinstance(ready, Connection)
                self._receive(by_connection[ready])
            self._hand_out()
        events, self._events = self._events, []
        return events

    @property
    def n_workers(self) -> int:
        """How many processes compute."""
        return len(self._workers)

    def worker_pids(self) -> list[int]:
        """The processes that compute, for those who watch them."""
        return [worker.child.process.pid for worker in self._workers]

    def close(self) -> None:
        """See `Executor.close`."""
        for worker in self._workers:
            worker.child.process.kill()
        for worker in self._workers:
            self._bury(worker)
        self._workers = []

    def _start(self, index: int) -> _Worker:
        their_lifeline, lifeline = os.pipe()
        core = self._cores[index % len(self._cores)]
        child = start_child(
            "mnist_hpo.executors.worker",
            their_lifeline,
            core,
            index,
            inherited_fds=[their_lifeline],
            environment=worker_environment(),
        )
        os.close(their_lifeline)
        return _Worker(child, lifeline)

    def _receive(self, index: int) -> None:
        """Take one message from a worker, or notice that it has died."""
        worker = self._workers[index]
        try:
            event = decode_message(worker.child.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._replace(index)
            return
        if isinstance(event, WorkerReady):
            self._n_failed_starts, worker.ready = 0, True
            return
        if isinstance(event, JobLost):
            # The worker gives up and ends itself; whether the job is lost for good is decided when it has ended.
            worker.last_words = event.reason
            return
        if isinstance(event, JobDone | Halted):
            if worker.job is not None:
                self._attempts.pop(worker.job.key, None)
            worker.job = None
        self._events.append(event)

    def _replace(self, index: int) -> None:
        worker = self._workers[index]
        self._workers[index] = self._start(index)
        reason = self._bury(worker)
        if worker.job is not None:
            self._retry(worker.job, reason)
        elif not worker.ready:
            self._n_failed_starts += 1
            if self._n_failed_starts >= MAX_ATTEMPTS * len(self._workers):
                raise UserError(f"the worker processes cannot start: {reason}")

    def _retry(self, job: Job, reason: str) -> None:
        self._attempts[job.key] += 1
        if self._attempts[job.key] < MAX_ATTEMPTS:
            self._pending[job.key] = ((0, 0), job)
        else:
            del self._attempts[job.key]
            self._events.append(JobLost(job.key, f"{MAX_ATTEMPTS} workers died of it: {reason}"))

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.job is None and self._pending:
                job = self._next_for(worker)
                try:
                    worker.child.connection.send_bytes(encode_job(job))
                except (BrokenPipeError, ConnectionResetError):
                    continue  # It has just died: `wait` will notice and replace it.
                del self._pending[job.key]
                worker.job = job
                worker.programs.add(_program(job))

    def _next_for(self, worker: _Worker) -> Job:
        """The most urgent of the jobs that this worker has compiled, among those that are soon needed."""
        by_urgency = [job for _, job in sorted(self._pending.values(), key=lambda pair: pair[0])]
        soon = by_urgency[: 2 * len(self._workers)]
        return next((job for job in soon if _program(job) in worker.programs), soon[0])

    def _bury(self, worker: _Worker) -> str:
        """Free what belongs to a dead worker; say what it died of."""
        reason = worker.child.reap()
        os.close(worker.lifeline)
        return worker.last_words or reason


def _program(job: Job) -> Program:
    # The number of features does not tell two jobs of one study apart.
    program, _ = split(job.training.model, job.training.parameters, n_features=0, n_classes=job.data.n_classes)
    return program
