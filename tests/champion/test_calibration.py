"""The expected calibration error equals calculations by hand."""

import numpy as np
import pytest

from mnist_hpo.champion.calibration import N_BINS, calibrate
from mnist_hpo.champion.pictures import mistakes


def two_classes(*confidences: float) -> np.ndarray:
    """Return log-probabilities that predict class 0 with the given confidences."""
    return np.log(np.array([[confidence, 1 - confidence] for confidence in confidences], np.float32))


def test_one_bin_equals_a_calculation_by_hand() -> None:
    # Four predictions with confidence 0.95, three of them right: |3/4 - 0.95|.
    found = calibrate(np.array([0, 0, 0, 1], np.uint8), two_classes(0.95, 0.95, 0.95, 0.95))
    assert found.n_examples.tolist() == [0] * 14 + [4]
    assert found.accuracy[14] == 3 / 4
    assert found.error == pytest.approx(0.2, abs=1e-6)


def test_bins_are_weighted_by_their_examples_and_gaps_do_not_cancel() -> None:
    # Bin 9: three predictions with 0.65, all right (gap 0.35). Bin 12: one prediction with 0.85, wrong (gap 0.85).
    found = calibrate(np.array([0, 0, 0, 1], np.uint8), two_classes(0.65, 0.65, 0.65, 0.85))
    assert np.flatnonzero(found.n_examples).tolist() == [9, 12]
    assert found.error == pytest.approx((3 * 0.35 + 0.85) / 4, abs=1e-6)


def test_a_prediction_with_confidence_1_belongs_to_the_last_bin() -> None:
    found = calibrate(np.array([0], np.uint8), np.array([[0.0, -np.inf]], np.float32))
    assert found.n_examples[N_BINS - 1] == 1
    assert found.error == 0


def test_calibrated_predictions_have_no_error() -> None:
    # Nine of ten predictions with confidence 0.9 are right.
    found = calibrate(np.array([0] * 9 + [1], np.uint8), two_classes(*[0.9] * 10))
    assert found.error == pytest.approx(0, abs=1e-6)


def test_mistakes_are_sorted_by_decreasing_confidence() -> None:
    rows = mistakes(np.array([0, 1, 1, 1], np.uint8), two_classes(0.99, 0.6, 0.8, 0.7))
    assert rows.tolist() == [2, 3, 1]
