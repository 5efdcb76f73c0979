"""The expected calibration error against cases small enough to be worked out by hand."""

import numpy as np
import pytest

from mnist_hpo.champion.calibration import N_BINS, calibrate
from mnist_hpo.champion.pictures import mistakes


def two_classes(*confidences: float) -> np.ndarray:
    """Guesses of class 0, each with its confidence."""
    return np.log(np.array([[confidence, 1 - confidence] for confidence in confidences], np.float32))


def test_one_bin_worked_out_by_hand() -> None:
    # Four guesses that say 0.95 and are right three times: |3/4 - 0.95|.
    found = calibrate(np.array([0, 0, 0, 1], np.uint8), two_classes(0.95, 0.95, 0.95, 0.95))
    assert found.n_examples.tolist() == [0] * 14 + [4]
    assert found.accuracy[14] == 3 / 4
    assert found.error == pytest.approx(0.2, abs=1e-6)


def test_bins_count_by_their_examples_and_gaps_do_not_cancel() -> None:
    # Three guesses in bin 9 say 0.65 and are all right (gap 0.35); one in bin 12 says 0.85 and is wrong (gap 0.85).
    found = calibrate(np.array([0, 0, 0, 1], np.uint8), two_classes(0.65, 0.65, 0.65, 0.85))
    assert np.flatnonzero(found.n_examples).tolist() == [9, 12]
    assert found.error == pytest.approx((3 * 0.35 + 0.85) / 4, abs=1e-6)


def test_a_guess_that_is_certain_belongs_to_the_last_bin() -> None:
    found = calibrate(np.array([0], np.uint8), np.array([[0.0, -np.inf]], np.float32))
    assert found.n_examples[N_BINS - 1] == 1
    assert found.error == 0


def test_confidence_that_is_earned_has_no_error() -> None:
    # Of ten guesses that say 0.9, nine are right.
    found = calibrate(np.array([0] * 9 + [1], np.uint8), two_classes(*[0.9] * 10))
    assert found.error == pytest.approx(0, abs=1e-6)


def test_mistakes_come_with_the_surest_first() -> None:
    rows = mistakes(np.array([0, 1, 1, 1], np.uint8), two_classes(0.99, 0.6, 0.8, 0.7))
    assert rows.tolist() == [2, 3, 1]
