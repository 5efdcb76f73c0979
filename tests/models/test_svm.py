"""Support vector machines stored as arrays predict as scikit-learn does, on real digits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC

from mnist_hpo.data.arrays import load_search
from mnist_hpo.models.svm import MODEL, decisions, describe, fit, scores
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import ParameterSet

RBF = {"kernel": "rbf", "C": 5.0, "gamma": 0.02}
LINEAR = {"kernel": "linear", "C": 0.1, "gamma": 0.02}


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    arrays = load_search(few_digits, "standard")
    return np.array(arrays.train_images[:1500]), np.array(arrays.train_labels[:1500])


def theirs(images: NDArray[np.uint8], labels: NDArray[np.uint8], parameters: ParameterSet) -> SVC:
    return SVC(**parameters, decision_function_shape="ovo").fit(images / 255, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [RBF, LINEAR])
@pytest.mark.parametrize("classes", [range(10), (3, 8, 9), (2, 7)])
def test_margins_equal_scikit_learns(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], parameters: ParameterSet, classes: tuple[int, ...]
) -> None:
    images, labels = (array[np.isin(digits[1], classes)] for array in digits)
    n_learned = len(labels) * 2 // 3
    machine = theirs(images[:n_learned], labels[:n_learned], parameters)
    expected = machine.decision_function(images[n_learned:] / 255)
    if len(classes) == 2:
        expected = -expected[:, None]  # It returns one margin, positive for the second class.
    tensors = fit(images[:n_learned], labels[:n_learned], 10, parameters)
    np.testing.assert_allclose(decisions(tensors, images[n_learned:], parameters), expected, rtol=1e-8, atol=1e-9)


def test_the_highest_score_is_usually_the_prediction(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    """Not always: scikit-learn counts won comparisons, while the scores sum the margins of lost ones."""
    images, labels = digits
    tensors = fit(images[:1000], labels[:1000], 10, RBF)
    guesses = scores(tensors, images[1000:], RBF).argmax(axis=1)
    predicted = theirs(images[:1000], labels[:1000], RBF).predict(images[1000:] / 255)
    assert np.mean(guesses == predicted) > 0.98
    assert np.mean(guesses == labels[1000:]) > 0.9


def test_fitting_is_reproducible_bit_for_bit(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    first, again = (fit(digits[0][:500], digits[1][:500], 10, RBF) for _ in range(2))
    assert first.keys() == again.keys()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


@pytest.mark.parametrize("parameters", [RBF, LINEAR])
@pytest.mark.parametrize("classes", [(4,), (4, 6), (1, 4, 6)])
def test_a_class_without_training_examples_is_never_predicted(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], parameters: ParameterSet, classes: tuple[int, ...]
) -> None:
    seen = np.isin(digits[1], classes)
    tensors = fit(digits[0][seen], digits[1][seen], 10, parameters)
    found = scores(tensors, digits[0], parameters)
    assert found.shape == (1500, 10)
    assert np.all(np.isfinite(found))
    assert set(found.argmax(axis=1)) <= set(classes)


def test_a_linear_machine_stores_no_examples(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, LINEAR)
    assert tensors["coefficients"].shape == (784, 45)
    assert "support_vectors" not in tensors
    data = DataShape((28, 28, 1), 10, n_train=500, n_valid=100)
    assert describe(data, LINEAR).n_parameters == 785 * 45


def test_the_counted_parameters_are_the_maximum(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, RBF)
    n_numbers = sum(tensors[name].size for name in ("support_vectors", "coefficients", "intercepts"))
    assert n_numbers <= MODEL.describe(DataShape((28, 28, 1), 10, n_train=500, n_valid=100), RBF).n_parameters
