"""Test figures against cases small enough to be worked out by hand."""

import math

import numpy as np
import pytest

from mnist_hpo.champion.measures import measure, summarize


def log(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows, np.float32))


def labels(*digits: int) -> np.ndarray:
    return np.array(digits, np.uint8)


def test_two_classes_worked_out_by_hand() -> None:
    # Class 0: one right, one taken for 1. Class 1: both right.
    found = measure(labels(0, 0, 1, 1), log([0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]))
    assert found.accuracy == 3 / 4
    assert found.confusion.tolist() == [[1, 1], [0, 2]]
    assert found.precision == pytest.approx((1, 2 / 3))
    assert found.recall == pytest.approx((1 / 2, 1))
    assert found.f1 == pytest.approx((2 / 3, 4 / 5))
    assert found.macro_precision == pytest.approx(5 / 6)
    assert found.macro_recall == pytest.approx(3 / 4)
    assert found.macro_f1 == pytest.approx(11 / 15)
    assert found.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.9)) / 4)


def test_rows_of_the_confusion_are_the_truth_and_columns_the_guess() -> None:
    found = measure(labels(2, 2, 0), log([0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]))
    assert found.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0]]


def test_a_class_that_is_never_guessed_or_never_there_counts_as_zero() -> None:
    # Class 1 is never guessed, class 2 never there: both have precision and F1 of 0, and both count in the mean.
    found = measure(labels(0, 1), log([0.8, 0.1, 0.1], [0.8, 0.1, 0.1]))
    assert found.precision == (0.5, 0, 0)
    assert found.recall == (1, 0, 0)
    assert found.f1 == pytest.approx((2 / 3, 0, 0))
    assert found.macro_f1 == pytest.approx(2 / 9)
    assert found.macro_precision == pytest.approx(1 / 6)


def test_all_right() -> None:
    found = measure(labels(1, 0), log([0.25, 0.75], [0.5001, 0.4999]))
    assert (found.accuracy, found.macro_f1, found.macro_precision, found.macro_recall) == (1, 1, 1, 1)
    assert found.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.5001)) / 2, rel=1e-6)


def test_a_sure_mistake_costs_much_but_not_infinity() -> None:
    found = measure(labels(0), np.array([[-200.0, 0.0]], np.float32))
    assert found.accuracy == 0
    assert 30 < found.log_loss < 800


def test_mean_and_deviation_over_seeds() -> None:
    # Accuracies 1, 1/2 and 0: their mean is 1/2, their sample deviation sqrt((1/4 + 0 + 1/4) / 2) = 1/2.
    truth = labels(0, 1)
    guesses = [log([0.9, 0.1], [0.1, 0.9]), log([0.9, 0.1], [0.9, 0.1]), log([0.1, 0.9], [0.9, 0.1])]
    summary = summarize([measure(truth, guess) for guess in guesses])
    assert summary["test_accuracy_mean"] == pytest.approx(1 / 2)
    assert summary["test_accuracy_std"] == pytest.approx(1 / 2)
    # F1 by class: (1, 1), (2/3, 0), (0, 0).
    assert summary["test_macro_f1_mean"] == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_one_seed_has_no_deviation() -> None:
    summary = summarize([measure(labels(0), log([0.9, 0.1]))])
    assert summary["test_accuracy_std"] == 0
    assert summary["test_log_loss_std"] == 0
