"""Test measures of one trained model, and their mean and standard deviation over several seeds."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from mnist_hpo.analysis.classification import by_class
from mnist_hpo.champion.calibration import calibrate


@dataclass(frozen=True)
class TestMeasures:
    """The measures of one model on the test examples."""

    __test__ = False  # Not a test case for pytest.

    accuracy: float
    log_loss: float
    """Mean cross-entropy, in nats."""
    ece: float
    """The expected calibration error, see `calibration`."""
    macro_precision: float
    macro_recall: float
    macro_f1: float
    precision: tuple[float, ...]
    """By class, as are recall and F1."""
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    confusion: NDArray[np.int64]
    """[true class, predicted class]: number of examples."""


def measure(labels: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> TestMeasures | None:
    """Compare predictions with the labels; return None for a model that has diverged.

    As in a search, a model has diverged if its loss is not finite: a logit is NaN, or so large that float32 overflows.

    Args:
        labels: u8[n].
        log_probabilities: f32[n, n_classes].

    """
    # In float64, where the mean of finite losses cannot overflow.
    log_loss = -float(np.mean(log_probabilities[np.arange(len(labels)), labels], dtype=np.float64))
    if not math.isfinite(log_loss):
        return None
    n_classes = log_probabilities.shape[1]
    classes = np.arange(n_classes)
    predicted = log_probabilities.argmax(axis=1)
    confusion = np.asarray(confusion_matrix(labels, predicted, labels=classes), np.int64)
    figures = by_class(confusion.tolist())
    precision, recall, f1 = (tuple(getattr(one, kind) for one in figures) for kind in ("precision", "recall", "f1"))
    calibration = calibrate(labels, log_probabilities)
    return TestMeasures(
        accuracy=float(np.mean(predicted == labels)),
        log_loss=log_loss,
        ece=calibration.error,
        macro_precision=float(np.mean(precision)),
        macro_recall=float(np.mean(recall)),
        macro_f1=float(np.mean(f1)),
        precision=precision,
        recall=recall,
        f1=f1,
        confusion=confusion,
    )


SCALARS = ("accuracy", "log_loss", "ece", "macro_precision", "macro_recall", "macro_f1")
"""The measures that are a single number."""


def summarize(measures: Collection[TestMeasures]) -> dict[str, float | None]:
    """Return `test_<measure>_mean` and `test_<measure>_std` over the seeds.

    The deviation is the sample's, and 0 for one seed. Without seeds, all values are None.
    """
    summary: dict[str, float | None] = {}
    for name in SCALARS:
        values = np.array([getattr(measure, name) for measure in measures], np.float64)
        summary[f"test_{name}_mean"] = float(values.mean()) if len(values) else None
        summary[f"test_{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0 if len(values) else None
    return summary
