"""A worker process: reads jobs from the coordinator, trains, and sends back what comes out.

It is started by `local`, one on each core, with one XLA thread. It loads JAX and the training core, and nothing of
search, storage or tracking.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # While the modules below are loaded, which leaves no garbage: collecting it takes a fifth of a worker's start.
    gc.disable()

import dataclasses
import errno
import os
import signal
import sys
import threading
import time
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import jax

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.checkpoint import load_checkpoint, save_checkpoint
from mnist_hpo.executors.job import (
    DataRef,
    EpochDone,
    Halted,
    Job,
    JobDone,
    JobLost,
    Message,
    WorkerReady,
    decode_job,
    encode_message,
)
from mnist_hpo.training.hyperparameters import split
from mnist_hpo.training.programs import Programs
from mnist_hpo.training.trainer import Examples, Progress, Trainer

_CHECKPOINT_INTERVAL_S = 5.0
"""A job of many epochs saves this often, so that a crash costs seconds. It changes no result."""


def main(jobs_fd: int, lifeline_fd: int, core: int, index: int) -> None:
    """Serve jobs on one core, as the worker of this index, until the coordinator closes the connection or dies."""
    gc.freeze()
    gc.enable()
    if hasattr(os, "sched_setaffinity"):
        # Before XLA starts, which makes as many threads as it sees cores. macOS has no affinity: see `local`.
        os.sched_setaffinity(0, {core})
    # Ctrl-C reaches the whole terminal group: it is the coordinator's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with, args=(lifeline_fd,), daemon=True).start()
    connection = Connection(jobs_fd)
    worker = Worker(connection, index)
    worker.send(WorkerReady())
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        worker.run(decode_job(message))


def _die_with(lifeline_fd: int) -> None:
    """End this process when the coordinator's end of the pipe closes, even in the middle of an epoch."""
    os.read(lifeline_fd, 1)
    os._exit(1)


class Worker:
    """Runs one job after another and keeps the compiled programs and the data between them."""

    def __init__(self, connection: Connection, index: int) -> None:
        self._connection, self._index = connection, index
        self._programs = Programs()

    def run(self, job: Job) -> None:
        """Run a job and report it; a lack of the machine is reported, any other error ends the process."""
        try:
            self._train(job)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            # In doubt about the state of the allocator: say why, and let a new process take over.
            self.send(JobLost(job.key, _reason(error)))
            sys.exit(1)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
                raise
            self.send(Halted(f"{job.checkpoint}: cannot write a checkpoint: {error.strerror}"))
        else:
            self.send(JobDone(job.key))

    def _train(self, job: Job) -> None:
        trainer = self._trainer(job)
        start = trainer.start()
        path = Path(job.checkpoint)
        progress = load_checkpoint(path, job, start) or start
        for result in progress.results[: job.last_epoch]:
            self.send(EpochDone(job.key, result))
        self._advance(job, trainer, progress, path)

    def _advance(self, job: Job, trainer: Trainer, progress: Progress, path: Path) -> None:
        saved_at, ended = time.monotonic(), trainer.has_ended(progress)
        while len(progress.results) < job.last_epoch and not ended:
            # Into the progress too: whoever goes on from its checkpoint tells who computed it, not who read it.
            result = progress.results[-1] = dataclasses.replace(trainer.advance(progress), worker=self._index)
            ended = trainer.has_ended(progress)
            # Before the last result is told: who hears it may at once hand the next job to another worker.
            if ended or len(progress.results) == job.last_epoch or time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S:
                save_checkpoint(path, job, progress)
                saved_at = time.monotonic()
            self.send(EpochDone(job.key, result))

    def _trainer(self, job: Job) -> Trainer:
        train, valid = _examples(job.data)
        n_features = train.images.shape[1]
        program, dynamic = split(
            job.training.model, job.training.parameters, n_features=n_features, n_classes=job.data.n_classes
        )
        return Trainer(self._programs, job.training, program, dynamic, train, valid)

    def send(self, message: Message) -> None:
        """Tell the coordinator; end where there is none any more."""
        try:
            self._connection.send_bytes(encode_message(message))
        except BrokenPipeError:
            os._exit(1)


@lru_cache(maxsize=2)
def _examples(data: DataRef) -> tuple[Examples, Examples | None]:
    arrays = load_search(Path(data.directory), data.split)
    if data.portion == "development":
        return Examples(jax.device_put(arrays.development_images), jax.device_put(arrays.development_labels)), None
    train = Examples(jax.device_put(arrays.train_images), jax.device_put(arrays.train_labels))
    valid = Examples(jax.device_put(arrays.valid_images), jax.device_put(arrays.valid_labels))
    return train, valid


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    no_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    return f"out of memory: {text}" if no_memory else text


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
