"""Learning-rate schedules, computed on the host as an array of one learning rate per step; never compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

_WARMUP_FRACTION = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4


def learning_rates(schedule: str, peak: float, *, epoch: int, n_steps: int, max_epochs: int) -> NDArray[np.float32]:
    """Return the learning rate of each step of one epoch, f32[n_steps].

    Args:
        schedule: constant, cosine or one_cycle.
        peak: the highest learning rate.
        epoch: the number of the epoch, counted from 1.
        n_steps: steps in an epoch.
        max_epochs: the length of the schedule in epochs; it does not change if the training ends early.

    """
    first = (epoch - 1) * n_steps
    progress = np.arange(first, first + n_steps, dtype=np.float64) / (max_epochs * n_steps)
    return (peak * _FACTORS[schedule](progress)).astype(np.float32)


def _constant(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones_like(progress)


def _cosine(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return factors from 1 to 0 (Loshchilov & Hutter, "SGDR", 2017, without restarts)."""
    return (1 + np.cos(np.pi * progress)) / 2


def _one_cycle(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return factors that rise for the first 30 %, then fall to almost 0, by cosines (Smith & Topin, 2018)."""
    start, end = 1 / _START_DIVISOR, 1 / _END_DIVISOR
    up = start + (1 - start) * (1 - np.cos(np.pi * progress / _WARMUP_FRACTION)) / 2
    down = end + (1 - end) * (1 + np.cos(np.pi * (progress - _WARMUP_FRACTION) / (1 - _WARMUP_FRACTION))) / 2
    return np.where(progress < _WARMUP_FRACTION, up, down)


_FACTORS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}
