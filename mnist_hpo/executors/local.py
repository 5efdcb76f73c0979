"""Worker processes on this machine: one pinned to each core, started anew where one dies."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.executors.job import (
    EpochDone,
    Event,
    Halted,
    Job,
    JobDone,
    JobLost,
    WorkerReady,
    decode_message,
    encode_job,
)
from mnist_hpo.executors.job_queue import MAX_ATTEMPTS, JobQueue
from mnist_hpo.learners.affinity import affinity
from mnist_hpo.spec.errors import UserError


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
    is_cancelled: bool = False
    """Whether nobody wants the job any more; its worker ends it all the same."""
    last_words: str | None = None
    affinities: set[Hashable] = field(default_factory=set[Hashable])
    """Of the jobs that it has run."""


class LocalExecutor:
    """An `Executor` over worker processes.

    Args:
        n_workers: how many; by default one on each usable core.

    """

    def __init__(self, n_workers: int | None = None) -> None:
        self._cores = usable_cores()
        self._queue = JobQueue()
        self._events: list[Event] = []
        self._n_failed_starts = 0
        self._workers = [self._start(index) for index in range(n_workers or len(self._cores))]

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        self._queue.submit(job, urgency)
        self._hand_out()

    def cancel(self, key: str) -> None:
        """See `Executor.cancel`."""
        self._queue.cancel(key)
        for worker in self._workers:
            if worker.job is not None and worker.job.key == key:
                worker.is_cancelled = True

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
        is_cancelled = worker.is_cancelled
        if isinstance(event, JobDone | Halted):
            worker.job, worker.is_cancelled = None, False
        if is_cancelled and not isinstance(event, Halted):
            # Its training may have been submitted again: the end of the cancelled job is not the end of that one.
            return
        match event:
            case EpochDone(key, result):
                self._queue.epoch_done(key, result.epoch)
            case JobDone(key):
                self._queue.job_done(key)
            case Halted():
                pass
        self._events.append(event)

    def _replace(self, index: int) -> None:
        worker = self._workers[index]
        self._workers[index] = self._start(index)
        reason = self._bury(worker)
        if worker.job is None:
            if not worker.ready:
                self._n_failed_starts += 1
                if self._n_failed_starts >= MAX_ATTEMPTS * len(self._workers):
                    raise UserError(f"the worker processes cannot start: {reason}")
        elif not worker.is_cancelled:
            lost = self._queue.worker_died(worker.job, reason)
            if lost is not None:
                self._events.append(lost)

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.job is None and self._queue:
                self._hand_job_to(worker)

    def _hand_job_to(self, worker: _Worker) -> None:
        # A worker that has compiled a job's program starts it sooner.
        job = self._queue.choose(lambda job: affinity(job.training) in worker.affinities, 2 * len(self._workers))
        try:
            worker.child.connection.send_bytes(encode_job(job))
        except (BrokenPipeError, ConnectionResetError):
            return  # It has just died: `wait` will notice and replace it.
        self._queue.remove(job)
        worker.job = job
        worker.affinities.add(affinity(job.training))

    def _bury(self, worker: _Worker) -> str:
        """Free what belongs to a dead worker; say what it died of."""
        reason = worker.child.reap()
        os.close(worker.lifeline)
        return worker.last_words or reason
