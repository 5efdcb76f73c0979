"""What one epoch of a training came to."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """The measures of one epoch. The losses and the accuracy are results; the seconds only tell how they were got."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean cross-entropy over the epoch's steps, while the weights moved and with dropout."""
    valid_loss: float | None
    """Mean cross-entropy over the validation examples; None where nothing was held back."""
    valid_accuracy: float | None
    train_s: float
    """Seconds in the training call alone."""
    evaluate_s: float
    """Seconds in the validation call alone."""
    compile_s: float
    """Seconds in compiling, or in loading a compiled program."""
    total_s: float
    """Seconds of the whole epoch: those three, and the host's work around them."""
    finished_unix_s: float
    worker: int | None = None
    """Which of the executor's workers computed it, counted from 0; None where that was not recorded."""

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite."""
        losses = (self.train_loss, self.valid_loss)
        return not all(math.isfinite(loss) for loss in losses if loss is not None)

    def same_numbers(self, other: EpochResult) -> bool:
        """Whether the other is the same result to the last bit, whenever and wherever it was got."""
        return _results(self) == _results(other)


def _results(result: EpochResult) -> tuple[object, ...]:
    values = (result.train_loss, result.valid_loss, result.valid_accuracy)
    return result.epoch, *(None if value is None else float(value).hex() for value in values)
