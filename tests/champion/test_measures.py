"""Test measures equal calculations by hand."""

import math

import numpy as np
import pytest

from mnist_hpo.champion.measures import TestMeasures, measure, summarize


def log(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows, np.float32))


def labels(*digits: int) -> np.ndarray:
    return np.array(digits, np.uint8)


def measured(truth: np.ndarray, log_probabilities: np.ndarray) -> TestMeasures:
    found = measure(truth, log_probabilities)
    assert found is not None
    return found


def test_measures_of_two_classes_equal_a_calculation_by_hand() -> None:
    # Class 0: one example right, one predicted as class 1. Class 1: both right.
    found = measured(labels(0, 0, 1, 1), log([0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]))
    assert found.accuracy == 3 / 4
    assert found.confusion.tolist() == [[1, 1], [0, 2]]
    assert found.precision == pytest.approx((1, 2 / 3))
    assert found.recall == pytest.approx((1 / 2, 1))
    assert found.f1 == pytest.approx((2 / 3, 4 / 5))
    assert found.macro_precision == pytest.approx(5 / 6)
    assert found.macro_recall == pytest.approx(3 / 4)
    assert found.macro_f1 == pytest.approx(11 / 15)
    assert found.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.9)) / 4)


def test_rows_of_the_confusion_matrix_are_labels_and_columns_predictions() -> None:
    found = measured(labels(2, 2, 0), log([0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]))
    assert found.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0]]


def test_a_class_without_predictions_or_examples_counts_as_zero() -> None:
    # Class 1 is never predicted and class 2 has no examples: both have precision and F1 of 0 and count in the mean.
    found = measured(labels(0, 1), log([0.8, 0.1, 0.1], [0.8, 0.1, 0.1]))
    assert found.precision == (0.5, 0, 0)
    assert found.recall == (1, 0, 0)
    assert found.f1 == pytest.approx((2 / 3, 0, 0))
    assert found.macro_f1 == pytest.approx(2 / 9)
    assert found.macro_precision == pytest.approx(1 / 6)


def test_measures_of_perfect_predictions() -> None:
    found = measured(labels(1, 0), log([0.25, 0.75], [0.5001, 0.4999]))
    assert (found.accuracy, found.macro_f1, found.macro_precision, found.macro_recall) == (1, 1, 1, 1)
    assert found.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.5001)) / 2, rel=1e-6)


def test_a_confident_mistake_has_a_large_but_finite_loss() -> None:
    found = measured(labels(0), np.array([[-200.0, 0.0]], np.float32))
    assert found.accuracy == 0
    assert found.log_loss == 200, "not clipped, as valid_loss is not"


@pytest.mark.parametrize("row", [[math.nan, math.nan], [-math.inf, 0.0]])
def test_a_model_with_a_non_finite_loss_has_diverged(row: list[float]) -> None:
    assert measure(labels(1, 0), np.array([[-1.0, -0.5], row], np.float32)) is None


def test_huge_finite_losses_are_measured() -> None:
    found = measured(labels(0, 0), np.array([[-3e38, 0.0], [-3e38, 0.0]], np.float32))
    assert found.log_loss == pytest.approx(3e38)
    assert measured(labels(0), np.array([[0.0, -math.inf]], np.float32)).log_loss == 0


def test_without_seeds_there_is_no_mean() -> None:
    assert set(summarize([]).values()) == {None}


def test_mean_and_deviation_over_seeds() -> None:
    # Accuracies of 1, 1/2 and 0 have the mean 1/2 and the sample deviation sqrt((1/4 + 0 + 1/4) / 2) = 1/2.
    truth = labels(0, 1)
    guesses = [log([0.9, 0.1], [0.1, 0.9]), log([0.9, 0.1], [0.9, 0.1]), log([0.1, 0.9], [0.9, 0.1])]
    summary = summarize([measured(truth, guess) for guess in guesses])
    assert summary["test_accuracy_mean"] == pytest.approx(1 / 2)
    assert summary["test_accuracy_std"] == pytest.approx(1 / 2)
    # F1 by class: (1, 1), (2/3, 0), (0, 0).
    assert summary["test_macro_f1_mean"] == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_one_seed_has_no_deviation() -> None:
    summary = summarize([measured(labels(0), log([0.9, 0.1]))])
    assert summary["test_accuracy_std"] == 0
    assert summary["test_log_loss_std"] == 0
