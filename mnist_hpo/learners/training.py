"""A training of any family, epoch by epoch. It can stop and resume between any two epochs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.learners import stopping
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.protocol import Examples, Learner, State
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.model import Tensors


@dataclass
class Progress:
    """The progress of a training: all that its next epoch depends on."""

    state: State
    kept_model: Tensors
    """The tensors that prediction needs, after the kept epoch; without validation, after the last epoch."""
    results: list[EpochResult] = field(default_factory=list[EpochResult])
    """The result of each epoch so far."""

    @property
    def valid_losses(self) -> list[float]:
        """The valid_loss of each epoch; empty without validation."""
        return [result.valid_loss for result in self.results if result.valid_loss is not None]


class Training:
    """Advances a training of one configuration.

    Args:
        config: the configuration to train.
        learner: the learner of this configuration.
        valid: the examples to validate on after each epoch; None for no validation: the last epoch's model is kept.

    """

    def __init__(self, config: TrainingConfig, learner: Learner, valid: Examples | None) -> None:
        self._config, self._learner, self._valid = config, learner, valid

    def start(self) -> Progress:
        """Return the progress before the first epoch."""
        state = self._learner.start()
        return Progress(state, self._learner.model(state))

    def advance(self, progress: Progress) -> EpochResult:
        """Train one more epoch, validate, and update `progress`.

        If the training diverges, the result has a loss that is not finite.
        """
        epoch = len(progress.results) + 1
        start, compiled_before_s = time.perf_counter(), self._learner.compile_s
        progress.state, train_loss, train_s = self._learner.advance(progress.state, epoch)
        valid_loss, valid_accuracy, evaluate_s = self._validate(progress.state)
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            train_s=train_s,
            evaluate_s=evaluate_s,
            compile_s=self._learner.compile_s - compiled_before_s,
            total_s=time.perf_counter() - start,
            finished_unix_s=time.time(),
        )
        progress.results.append(result)
        if self._valid is None or stopping.kept_epoch(progress.valid_losses, self._config.keep) == epoch:
            progress.kept_model = self._learner.model(progress.state)
        return result

    def has_ended(self, progress: Progress) -> bool:
        """Return whether the training has ended: it has diverged, or its epochs or its patience are used up."""
        if progress.results and progress.results[-1].diverged:
            return True
        if self._valid is None:
            return len(progress.results) >= self._config.max_epochs
        return stopping.has_ended(
            progress.valid_losses, max_epochs=self._config.max_epochs, patience_epochs=self._config.patience_epochs
        )

    def _validate(self, state: State) -> tuple[float | None, float | None, float]:
        """Return valid_loss, valid_accuracy, and the seconds of validation without compiling."""
        if self._valid is None:
            return None, None, 0.0
        start, compiled_before_s = time.perf_counter(), self._learner.compile_s
        log_probabilities = self._learner.predict(state, self._valid.images)
        labels = self._valid.labels
        loss = mean(-log_probabilities[np.arange(len(labels)), labels])
        accuracy = mean(np.argmax(log_probabilities, axis=1) == labels)
        compile_s = self._learner.compile_s - compiled_before_s
        return loss, accuracy, time.perf_counter() - start - compile_s


def mean(values: NDArray[np.float32] | NDArray[np.bool_]) -> float:
    """Return the mean over examples, computed in float64; NaN if a value is not finite."""
    found = float(np.mean(values, dtype=np.float64))
    return found if math.isfinite(found) else math.nan
