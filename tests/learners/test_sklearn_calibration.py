"""Temperature scaling turns the scores of estimators into probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.learners.sklearn.calibration import fit_inverse_temperature, log_softmax


def log_loss(scores: np.ndarray, labels: np.ndarray, factor: float) -> float:
    return -float(np.mean(log_softmax(scores, factor)[np.arange(len(labels)), labels]))


@given(st.integers(0, 2**32), st.floats(0.1, 10))
def test_the_temperature_minimises_the_loss(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 200)
    scores = spread * (random.normal(size=(200, 4)) + np.eye(4)[labels])
    best = fit_inverse_temperature(scores, labels.astype(np.uint8))
    for factor in (0.5 * best, 0.99 * best, 1.01 * best, 2 * best):
        assert log_loss(scores, labels, best) <= log_loss(scores, labels, factor) + 1e-12


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.0), (-1, np.log(4))])
def test_the_loss_is_finite_for_scores_that_are_always_right_or_always_wrong(sign: int, expected: float) -> None:
    labels = np.arange(4, dtype=np.uint8)
    factor = fit_inverse_temperature(sign * np.eye(4), labels)
    assert log_loss(sign * np.eye(4), labels, factor) == pytest.approx(expected, abs=1e-3)


def test_scores_are_converted_to_log_probabilities() -> None:
    found = log_softmax(np.array([[1e6, 0.0, -3.0]]), 2.0)
    assert np.exp(found).sum() == pytest.approx(1)
