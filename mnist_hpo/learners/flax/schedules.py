"""Numbers that differ from step to step, such as learning rates: computed on the host, so never compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.seeds import seed_of

_WARMUP_FRACTION = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4


class Steps(NamedTuple):
    """The steps of one epoch in a training."""

    epoch: int
    """The number of the epoch, counted from 1."""
    n_steps: int
    """Steps in an epoch."""
    max_epochs: int
    """The length of the schedule in epochs; it does not change if the training ends early."""

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The number of each step, counted from 0 at the start of the training, f64[n_steps]."""
        first = (self.epoch - 1) * self.n_steps
        return np.arange(first, first + self.n_steps, dtype=np.float64)

    @property
    def n_total(self) -> int:
        """The number of steps in the schedule."""
        return self.max_epochs * self.n_steps


def learning_rates(
    schedule: str, peak: float, steps: Steps, *, decay_start: float = 0.5, warmup: float = 0.0
) -> NDArray[np.float32]:
    """Return the learning rate of each step of one epoch, f32[n_steps].

    Args:
        schedule: constant, linear, cosine or one_cycle.
        peak: the highest learning rate.
        steps: the steps.
        decay_start: the share of all steps after which `linear` decreases.
        warmup: the share of all steps in which the learning rate is multiplied by a factor that rises from 0 to 1.

    """
    progress = steps.numbers / steps.n_total
    factors = _linear(progress, decay_start) if schedule == "linear" else _FACTORS[schedule](progress)
    if warmup > 0:
        # The first step has a learning rate above 0, and the first step after the warm-up has the whole one.
        factors = factors * np.minimum(1, (steps.numbers + 1) / (warmup * steps.n_total + 1))
    return (peak * factors).astype(np.float32)


def mixing(alpha: float, seed: int, steps: Steps) -> NDArray[np.float32]:
    """Return the share of each image in its mixture, from Beta(alpha, alpha), for each step of one epoch, f32[n_steps].

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).
    """
    random = np.random.Generator(np.random.Philox(key=seed_of(seed, "mixup", steps.epoch)))
    return random.beta(alpha, alpha, steps.n_steps).astype(np.float32)


def exponential_average(decay: float, steps: Steps) -> NDArray[np.float32]:
    """Return the share of the new weights in the average after each step of one epoch, f32[n_steps].

    The average of the first steps is an equal one, as the exponential one would depend on the initial weights.
    """
    return np.maximum(1 - decay, 1 / (steps.numbers + 1)).astype(np.float32)


def equal_average(start: float, steps: Steps) -> NDArray[np.float32]:
    """Return the share of the new weights in the average after each step of one epoch, f32[n_steps].

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018), over steps rather than
    epochs. Before the share `start` of all steps, the average is the last weights.
    """
    n_averaged = np.maximum(1, steps.numbers - np.floor(start * steps.n_total) + 1)
    return (1 / n_averaged).astype(np.float32)


def _linear(progress: NDArray[np.float64], decay_start: float) -> NDArray[np.float64]:
    """Return factors that are 1 until `decay_start`, then fall to 0 at a progress of 1."""
    return np.minimum(1, (1 - progress) / max(1 - decay_start, np.finfo(float).tiny))


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
