"""The result of one epoch of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """The measures of one epoch. The losses and the accuracy are deterministic; the rest depends on the machine."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean cross-entropy over the epoch's steps, each with the weights before its update, and with dropout."""
    valid_loss: float | None
    """Mean cross-entropy over the validation examples; None without validation."""
    valid_accuracy: float | None
    train_s: float
    """Seconds of the training call alone."""
    evaluate_s: float
    """Seconds of the validation call alone."""
    compile_s: float
    """Seconds of compiling or of loading compiled programs."""
    total_s: float
    """Seconds of the whole epoch: these three, and the work on the host."""
    finished_unix_s: float
    worker: int | None = None
    """The worker that computed it, counted from 0; None if that was not recorded."""

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite."""
        losses = (self.train_loss, self.valid_loss)
        return not all(math.isfinite(loss) for loss in losses if loss is not None)

    def same_numbers(self, other: EpochResult) -> bool:
        """Return whether two results are equal bit for bit, regardless of times and workers."""
        return _results(self) == _results(other)


def _results(result: EpochResult) -> tuple[object, ...]:
    values = (result.train_loss, result.valid_loss, result.valid_accuracy)
    return result.epoch, *(None if value is None else float(value).hex() for value in values)
