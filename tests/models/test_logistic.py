"""A logistic regression stored as arrays predicts as scikit-learn does, on real digits."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mnist_hpo.data.arrays import load_search
from mnist_hpo.models.logistic import describe, fit, scores
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import ParameterSet

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]

RAW: ParameterSet = {"C": 0.05, "max_iter": 500, "deskew": "no"}
N_LEARNED = 1500


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> Digits:
    arrays = load_search(few_digits, "standard")
    return np.array(arrays.train_images[:3000]).reshape(-1, 28, 28, 1), np.array(arrays.train_labels[:3000])


@pytest.mark.parametrize("classes", [range(10), (3, 8, 9), (2, 7)])
def test_probabilities_equal_scikit_learns(digits: Digits, classes: tuple[int, ...]) -> None:
    images, labels = (array[np.isin(digits[1], classes)] for array in digits)
    n_learned, pixels = len(labels) // 2, images.reshape(len(images), -1) / 255
    reference = LogisticRegression(C=0.05, max_iter=500).fit(pixels[:n_learned], labels[:n_learned])
    tensors = fit(images[:n_learned], labels[:n_learned], 10, RAW)
    logits = scores(tensors, images[n_learned:], RAW)
    exponentials = np.exp(logits[:, list(classes)] - logits.max(axis=1, keepdims=True))
    expected = reference.predict_proba(pixels[n_learned:])
    np.testing.assert_allclose(exponentials / exponentials.sum(axis=1, keepdims=True), expected, rtol=1e-6, atol=1e-12)
    assert np.array_equal(logits.argmax(axis=1), reference.predict(pixels[n_learned:]))


def test_deskewed_digits_are_easier(digits: Digits) -> None:
    errors: list[float] = []
    for parameters in (RAW, {**RAW, "deskew": "yes"}):
        tensors = fit(digits[0][:N_LEARNED], digits[1][:N_LEARNED], 10, parameters)
        guesses = scores(tensors, digits[0][N_LEARNED:], parameters).argmax(axis=1)
        errors.append(float(np.mean(guesses != digits[1][N_LEARNED:])))
    assert errors[0] < 0.13
    assert errors[1] < 0.75 * errors[0]


def test_stopping_before_convergence_gives_no_warning(digits: Digits) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = fit(digits[0][:500], digits[1][:500], 10, {**RAW, "max_iter": 3})
    assert np.all(np.isfinite(tensors["coefficients"]))


def test_fitting_is_reproducible_bit_for_bit(digits: Digits) -> None:
    first, again = (fit(digits[0][:500], digits[1][:500], 10, RAW) for _ in range(2))
    assert first.keys() == again.keys()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


@pytest.mark.parametrize("classes", [(4,), (4, 6), (1, 4, 6)])
def test_a_class_without_training_examples_is_never_predicted(digits: Digits, classes: tuple[int, ...]) -> None:
    seen = np.isin(digits[1], classes)
    tensors = fit(digits[0][seen], digits[1][seen], 10, RAW)
    found = scores(tensors, digits[0], RAW)
    assert found.shape == (3000, 10)
    assert np.all(np.isfinite(found))
    assert set(found.argmax(axis=1)) == set(classes)


def test_the_counted_parameters_are_the_stored_numbers(digits: Digits) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, RAW)
    described = describe(DataShape((28, 28, 1), 10, n_train=500, n_valid=100), RAW)
    assert tensors["coefficients"].size + tensors["intercepts"].size == described.n_parameters
