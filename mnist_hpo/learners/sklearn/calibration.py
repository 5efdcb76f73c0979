"""Probabilities from scores: a softmax whose temperature is fitted to held-back examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST = 1e-4, 1e4
_N_HALVINGS = 60


def log_softmax(scores: NDArray[np.float64], inverse_temperature: float) -> NDArray[np.float64]:
    """Return log-probabilities f64[E, C] of scores f64[E, C]."""
    scaled = inverse_temperature * (scores - scores.max(axis=1, keepdims=True))
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def fit_inverse_temperature(scores: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Return the factor of the scores that minimises the log loss of their softmax, found by bisection.

    Guo et al., "On Calibration of Modern Neural Networks" (2017). The loss is convex in the factor.

    Args:
        scores: f64[E, C], of examples that the estimator was not fitted to.
        labels: u8[E].

    """
    low, high = _LOWEST, _HIGHEST
    of_labels = scores[np.arange(len(labels)), labels]
    for _ in range(_N_HALVINGS):
        middle = float(np.sqrt(low * high))
        expected = np.sum(np.exp(log_softmax(scores, middle)) * scores, axis=1)
        if np.mean(expected - of_labels) < 0:  # The loss still decreases.
            low = middle
        else:
            high = middle
    return float(np.sqrt(low * high))
