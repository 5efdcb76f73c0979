"""One training, epoch by epoch: the host loop around the core, which can stop and go on between any two epochs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.permutation import permutation
from mnist_hpo.training import core, schedules, stopping
from mnist_hpo.training.config import TrainingConfig
from mnist_hpo.training.hyperparameters import Hyperparameters, Program
from mnist_hpo.training.initial import initial_state
from mnist_hpo.training.programs import Programs
from mnist_hpo.training.result import EpochResult


@dataclass(frozen=True)
class Examples:
    """Images u8[E, F] and labels u8[E] on the device."""

    images: jax.Array
    labels: jax.Array

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass
class Progress:
    """Where a training stands: all that its next epoch depends on."""

    state: core.TrainState
    best_parameters: Any
    """The weights after the best epoch, as NumPy arrays; without validation, after the last."""
    results: list[EpochResult] = field(default_factory=list[EpochResult])
    """One for each epoch trained so far."""

    @property
    def valid_losses(self) -> list[float]:
        """valid_loss by epoch; empty where there is no validation."""
        return [result.valid_loss for result in self.results if result.valid_loss is not None]


class Trainer:
    """Advances trainings of one configuration on one data set.

    Args:
        programs: where compiled programs are kept from one trainer to the next.
        config: what is trained.
        program: the static configuration that belongs to `config`.
        dynamic: the dynamic one.
        train: the examples to learn from.
        valid: the examples to validate on after each epoch, or None: then every epoch counts as the best.

    """

    def __init__(
        self,
        programs: Programs,
        config: TrainingConfig,
        program: Program,
        dynamic: Hyperparameters,
        train: Examples,
        valid: Examples | None,
    ) -> None:
        self._programs, self._config, self._program, self._dynamic = programs, config, program, dynamic
        self._train, self._valid = train, valid
        self._seed = _words(config.seed)

    def start(self) -> Progress:
        """The state before the first epoch."""
        state = initial_state(self._program, self._config.seed)
        return Progress(state, state.parameters)

    def advance(self, progress: Progress) -> EpochResult:
        """Train one more epoch and validate; `progress` is brought up to date.

        A loss that is not finite shows in the result as it is: the training has diverged.
        """
        epoch = len(progress.results) + 1
        start, compiled_before_s = time.perf_counter(), self._programs.compile_s
        train_epoch = self._programs.train_epoch(self._program, len(self._train))
        arguments = self._epoch_arguments(epoch)
        train_start = time.perf_counter()
        progress.state, losses = train_epoch(progress.state, self._train.images, self._train.labels, *arguments)
        train_loss = _mean(np.asarray(losses))
        train_s = time.perf_counter() - train_start
        valid_loss, valid_accuracy, evaluate_s = self._validate(progress)
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            train_s=train_s,
            evaluate_s=evaluate_s,
            compile_s=self._programs.compile_s - compiled_before_s,
            total_s=time.perf_counter() - start,
            finished_unix_s=time.time(),
        )
        progress.results.append(result)
        if self._valid is None or stopping.best_epoch(progress.valid_losses) == epoch:
            progress.best_parameters = _copy(progress.state.parameters)
        return result

    def has_ended(self, progress: Progress) -> bool:
        """Whether no epoch follows: diverged, out of budget or out of patience."""
        if progress.results and progress.results[-1].diverged:
            return True
        if self._valid is None:
            return len(progress.results) >= self._config.max_epochs
        return stopping.has_ended(
            progress.valid_losses, max_epochs=self._config.max_epochs, patience_epochs=self._config.patience_epochs
        )

    def _epoch_arguments(self, epoch: int) -> tuple[Any, ...]:
        batch_size, dynamic = self._program.batch_size, self._dynamic
        n_steps = len(self._train) // batch_size
        rows = permutation(len(self._train), self._config.seed, epoch)[: n_steps * batch_size]
        rates = schedules.learning_rates(
            dynamic.schedule,
            dynamic.learning_rate,
            epoch=epoch,
            n_steps=n_steps,
            max_epochs=self._config.schedule_epochs or self._config.max_epochs,
        )
        traced = core.Dynamics(
            *map(np.float32, (dynamic.dropout, dynamic.l1, dynamic.l2, dynamic.label_smoothing, dynamic.momentum))
        )
        return rows.astype(np.int32).reshape(n_steps, batch_size), rates, traced, self._seed

    def _validate(self, progress: Progress) -> tuple[float | None, float | None, float]:
        """valid_loss, valid_accuracy, and the seconds that they took beside the compile."""
        if self._valid is None:
            return None, None, 0.0
        predict = self._programs.predict(self._program, len(self._valid))
        start = time.perf_counter()
        log_probabilities = np.asarray(predict(progress.state.parameters, self._valid.images))
        labels = np.asarray(self._valid.labels)
        losses = -log_probabilities[np.arange(len(labels)), labels]
        hits = np.argmax(log_probabilities, axis=1) == labels
        return _mean(losses), _mean(hits), time.perf_counter() - start


def _words(seed: int) -> NDArray[np.uint32]:
    return np.array([seed >> 32, seed & 0xFFFFFFFF], dtype=np.uint32)


def _copy(parameters: Any) -> Any:
    """Out of the device's buffers, which the next epoch reuses."""
    return jax.tree.map(partial(np.array, copy=True), parameters)


def _mean(values: NDArray[np.float32] | NDArray[np.bool_]) -> float:
    """Over examples, in float64; not finite where one of them is not."""
    mean = float(np.mean(values, dtype=np.float64))
    return mean if math.isfinite(mean) else math.nan
