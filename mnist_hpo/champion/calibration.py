"""Calibration of a model: the reliability diagram and the expected calibration error.

As in Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, with their 15 bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_BINS = 15
"""Number of bins of equal width over confidences from 0 to 1; a bin includes its upper edge."""


@dataclass(frozen=True)
class Calibration:
    """Accuracy and mean confidence, by bins of the confidence."""

    n_examples: NDArray[np.int64]
    """i64[N_BINS]."""
    accuracy: NDArray[np.float64]
    """f64[N_BINS]; NaN for an empty bin."""
    confidence: NDArray[np.float64]
    """The mean confidence, f64[N_BINS]; NaN for an empty bin."""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence| over the bins, weighted by examples."""
        filled = self.n_examples > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float(np.average(gaps, weights=self.n_examples[filled]))


def calibrate(labels: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> Calibration:
    """Bin predictions by their confidence, which is the probability of the predicted class.

    Args:
        labels: u8[n].
        log_probabilities: f32[n, n_classes].

    """
    right = log_probabilities.argmax(axis=1) == labels
    confidence = np.exp(log_probabilities.max(axis=1).astype(np.float64))
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    n_examples = np.bincount(bins, minlength=N_BINS)
    with np.errstate(invalid="ignore"):
        return Calibration(
            n_examples,
            np.bincount(bins, weights=right, minlength=N_BINS) / n_examples,
            np.bincount(bins, weights=confidence, minlength=N_BINS) / n_examples,
        )
