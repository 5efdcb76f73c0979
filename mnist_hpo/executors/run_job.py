"""Run jobs in this process, as every worker does. It loads nothing of search, storage or tracking."""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.checkpoint import load_checkpoint, save_checkpoint
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.messages import EpochDone, Halted, JobDone, JobLost, Message
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples, Learner
from mnist_hpo.learners.training import Progress, Training
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import fingerprint

_CHECKPOINT_INTERVAL_S = 5.0
"""A job of many epochs saves this often, so that a crash costs only seconds. It changes no result."""
_NEEDS_A_PERSON = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class JobRunner:
    """Runs one job after another; keeps the compiled programs and the data between them.

    Args:
        report: receives the messages of the jobs, in order.
        index: the number of this worker among those of its executor, counted from 0.

    """

    def __init__(self, report: Callable[[Message], None], index: int) -> None:
        self._report, self._index = report, index
        self._learners = LearnerFactory()

    def run(self, job: Job) -> bool:
        """Run a job and report its epochs and its end.

        Returns:
            False if this process should end and another one should retry the job: XLA or the allocator has failed, and
            may fail again. The reason has been reported as `JobLost`.

        """
        try:
            last_epoch = self._train(job)
        except (MemoryError, RuntimeError) as error:  # XLA's errors are RuntimeErrors.
            self._report(JobLost(job.key, _reason(error)))
            return False
        except OSError as error:
            if error.errno not in _NEEDS_A_PERSON:
                raise
            self._report(Halted(f"{job.checkpoint}: cannot write a checkpoint: {error.strerror}"))
        except UserError as error:
            self._report(Halted(str(error)))
        else:
            self._report(JobDone(job.key, last_epoch))
        return True

    def _train(self, job: Job) -> int:
        """Return the last epoch that was reported."""
        train, valid = _examples(job.data)
        learner = self._learners.make(job.training, train, n_classes=job.data.n_classes)
        training = Training(job.training, learner, valid)
        progress = load_checkpoint(job, learner) or training.start()
        for result in progress.results[: job.last_epoch]:
            self._report(EpochDone(job.key, result, fingerprint()))
        self._advance(job, learner, training, progress)
        return min(len(progress.results), job.last_epoch)

    def _advance(self, job: Job, learner: Learner, training: Training, progress: Progress) -> None:
        saved_at, ended = time.monotonic(), training.has_ended(progress)
        while len(progress.results) < job.last_epoch and not ended:
            # The checkpoint names the worker that computed an epoch, not the one that reads it later.
            result = progress.results[-1] = dataclasses.replace(training.advance(progress), worker=self._index)
            ended = training.has_ended(progress)
            # Save before the last result is reported: the next job of this training may then start elsewhere at once.
            if ended or len(progress.results) == job.last_epoch or time.monotonic() - saved_at > _CHECKPOINT_INTERVAL_S:
                save_checkpoint(job, learner, progress)
                saved_at = time.monotonic()
            self._report(EpochDone(job.key, result, fingerprint()))


@lru_cache(maxsize=2)
def _examples(data: DataRef) -> tuple[Examples, Examples | None]:
    arrays = load_search(Path(data.directory), data.split)

    rows = slice(None) if data.rows is None else np.load(data.rows)

    def examples(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Examples:
        return Examples(images.reshape(-1, *arrays.image_shape), labels)

    if data.portion == "development":
        return examples(arrays.development_images[rows], arrays.development_labels[rows]), None
    train = examples(arrays.train_images[rows], arrays.train_labels[rows])
    return train, examples(arrays.valid_images, arrays.valid_labels)


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    no_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    return f"out of memory: {text}" if no_memory else text
