"""Worker processes on this machine, one pinned to each core. A worker that dies is replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.executors.cores import usable_cores
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.executors.job import Job, Resources, encode_job
from mnist_hpo.executors.job_queue import MAX_ATTEMPTS, JobQueue
from mnist_hpo.executors.messages import EpochDone, Event, Halted, JobDone, JobLost, WorkerReady, decode_message
from mnist_hpo.spec.errors import UserError

_RESOURCES = Resources(n_cores=1, n_gpus=0)
"""Of a worker."""


@dataclass
class _Worker:
    child: ChildProcess
    lifeline: int
    """The file descriptor of a pipe's write end. It closes when the coordinator dies, and the worker then exits."""
    is_ready: bool = False
    job: Job | None = None
    is_cancelled: bool = False
    """Whether the job was cancelled. The worker finishes it all the same."""
    error: str | None = None
    """The error that the worker has reported before it exits."""
    affinities: set[str] = field(default_factory=set[str])
    """Of the jobs that it has started."""


class LocalExecutor:
    """An `Executor` over worker processes.

    Args:
        n_workers: the number of workers; None for one on each usable core.

    """

    def __init__(self, n_workers: int | None = None) -> None:
        self._cores = usable_cores()
        self._queue = JobQueue()
        self._events: list[Event] = []
        self._n_failed_starts = 0
        self._workers = [self._start(index) for index in range(n_workers or len(self._cores))]

    @property
    def n_workers(self) -> int:
        """See `Executor.n_workers`."""
        return len(self._workers)

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        if not job.resources.fits(_RESOURCES):
            self._events.append(Halted(f"a job needs {job.resources}; a worker of this executor has {_RESOURCES}"))
            return
        self._queue.submit(job, urgency)
        self._start_jobs()

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
            self._start_jobs()
        events, self._events = self._events, []
        return events

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.child.process.pid for worker in self._workers]

    def close(self) -> None:
        """See `Executor.close`."""
        for worker in self._workers:
            worker.child.process.kill()
        for worker in self._workers:
            self._release(worker)
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
        """Handle one message of a worker, or its death."""
        worker = self._workers[index]
        try:
            message = decode_message(worker.child.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._replace(index)
            return
        match message:
            case WorkerReady():
                self._n_failed_starts, worker.is_ready = 0, True
            case JobLost(_, reason):
                # The worker exits now. `_replace` then decides whether the job is retried.
                worker.error = reason
            case _:
                self._take(worker, message)

    def _take(self, worker: _Worker, event: EpochDone | JobDone | Halted) -> None:
        is_cancelled = worker.is_cancelled
        if isinstance(event, JobDone | Halted):
            worker.job, worker.is_cancelled = None, False
        if is_cancelled and not isinstance(event, Halted):
            # The training may have been submitted again: this job's end is not the end of the new one.
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
        reason = self._release(worker)
        if worker.job is None:
            if not worker.is_ready:
                self._n_failed_starts += 1
                if self._n_failed_starts >= MAX_ATTEMPTS * len(self._workers):
                    raise UserError(f"the worker processes cannot start: {reason}")
        elif not worker.is_cancelled:
            lost = self._queue.worker_died(worker.job, reason)
            if lost is not None:
                self._events.append(lost)

    def _start_jobs(self) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.job is None and self._queue:
                self._start_job(worker)

    def _start_job(self, worker: _Worker) -> None:
        job = self._queue.choose(lambda job: job.affinity in worker.affinities, 2 * len(self._workers))
        try:
            worker.child.connection.send_bytes(encode_job(job))
        except (BrokenPipeError, ConnectionResetError):
            return  # It has just died: `wait` replaces it.
        self._queue.remove(job)
        worker.job = job
        worker.affinities.add(job.affinity)

    def _release(self, worker: _Worker) -> str:
        """Free the resources of a dead worker; return the reason of its death."""
        reason = worker.child.reap()
        os.close(worker.lifeline)
        return worker.error or reason


EXECUTOR = LocalExecutor
