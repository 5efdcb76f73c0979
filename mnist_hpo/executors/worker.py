"""A worker process: reads jobs from the coordinator, trains, and sends back what comes out.

It is started by `local`, one on each core, with one thread. It loads the learners, and nothing of search, storage or
tracking.
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

import numpy as np
from numpy.typing import NDArray

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
from mnist_hpo.learners.factory import LearnerFactory, load_most_used
from mnist_hpo.learners.protocol import Examples, Learner
from mnist_hpo.learners.training import Progress, Training

_CHECKPOINT_INTERVAL_S = 5.0
"""A job of many epochs saves this often, so that a crash costs seconds. It changes no result."""


def main(jobs_fd: int, lifeline_fd: int, core: int, index: int) -> None:
    """Serve jobs on one core, as the worker of this index, until the coordinator closes the connection or dies."""
    gc.freeze()
    gc.enable()
    if hasattr(os, "sched_setaffinity"):
        # Before XLA starts, which makes as many threads as it sees cores. macOS has no affinity: see `local`.
        os.sched_setaffinity(0, {core})
    load_most_used()
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
        self._learners = LearnerFactory()

    def run(self, job: Job) -> None:
        """Run a job and report it; a lack of the machine is reported, any other error ends the process."""
        try:
            self._train(job)
        except (MemoryError, RuntimeError) as error:
            # XLA's errors are RuntimeErrors. In doubt about the state of the allocator: say why, and let a new process
            # take over.
            self.send(JobLost(job.key, _reason(error)))
            sys.exit(1)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
                raise
            self.send(Halted(f"{job.checkpoint}: cannot write a checkpoint: {error.strerror}"))
        else:
            self.send(JobDone(job.key))

    def _train(self, job: Job) -> None:
        train, valid = _examples(job.data)
        learner = self._learners.make(job.training, train, n_classes=job.data.n_classes)
        training = Training(job.training, learner, valid)
        progress = load_checkpoint(job, learner) or training.start()
        for result in progress.results[: job.last_epoch]:
            self.send(EpochDone(job.key, result))
        self._advance(job, learner, training, progress)

    def _advance(self, job: Job, learner: Learner, training: Training, progress: Progress) -> None:
        saved_at, ended = time.monotonic(), training.has_ended(progress)
        while len(progress.results) < job.last_epoch and not ended:
            # Into the progress too: whoever goes on from its checkpoint tells who computed it, not who read it.
            result = progress.results[-1] = dataclasses.replace(training.advance(progress), worker=self._index)
            ended = training.has_ended(progress)
            # Before the last result is told: who hears it may at once hand the next job to another worker.
            if ended or len(progress.results) == job.last_epoch or time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S:
                save_checkpoint(job, learner, progress)
                saved_at = time.monotonic()
            self.send(EpochDone(job.key, result))

    def send(self, message: Message) -> None:
        """Tell the coordinator; end where there is none any more."""
        try:
            self._connection.send_bytes(encode_message(message))
        except BrokenPipeError:
            os._exit(1)


@lru_cache(maxsize=2)
def _examples(data: DataRef) -> tuple[Examples, Examples | None]:
    arrays = load_search(Path(data.directory), data.split)

    def examples(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Examples:
        return Examples(images.reshape(-1, *arrays.image_shape), labels)

    if data.portion == "development":
        return examples(arrays.development_images, arrays.development_labels), None
    return examples(arrays.train_images, arrays.train_labels), examples(arrays.valid_images, arrays.valid_labels)


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    no_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    return f"out of memory: {text}" if no_memory else text


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
