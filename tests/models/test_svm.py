"""Support vector machines stored as arrays predict as scikit-learn does, on real digits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.svm import SVC

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.deskew import deskew
from mnist_hpo.data.principal_components import principal_components
from mnist_hpo.data.shift import shift
from mnist_hpo.models.svm import MODEL, decisions, describe, fit, scores
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import ParameterSet

RBF: ParameterSet = {"kernel": "rbf", "C": 5.0, "gamma": 0.02, "deskew": "no", "shifts": "none"}
LINEAR: ParameterSet = {**RBF, "kernel": "linear", "C": 0.1}


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    arrays = load_search(few_digits, "standard")
    return np.array(arrays.train_images[:1500]).reshape(-1, 28, 28, 1), np.array(arrays.train_labels[:1500])


def flat(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255


def theirs(features: NDArray[np.float64], labels: NDArray[np.uint8], parameters: ParameterSet) -> SVC:
    options = {name: parameters[name] for name in ("kernel", "C", "gamma")}
    return SVC(**options, decision_function_shape="ovo").fit(features, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [RBF, LINEAR])
@pytest.mark.parametrize("classes", [range(10), (3, 8, 9), (2, 7)])
def test_margins_equal_scikit_learns(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], parameters: ParameterSet, classes: tuple[int, ...]
) -> None:
    images, labels = (array[np.isin(digits[1], classes)] for array in digits)
    n_learned = len(labels) * 2 // 3
    machine = theirs(flat(images[:n_learned]), labels[:n_learned], parameters)
    expected = machine.decision_function(flat(images[n_learned:]))
    if len(classes) == 2:
        expected = -expected[:, None]  # It returns one margin, positive for the second class.
    tensors = fit(images[:n_learned], labels[:n_learned], 10, parameters)
    np.testing.assert_allclose(decisions(tensors, images[n_learned:], parameters), expected, rtol=1e-8, atol=1e-9)


def test_the_highest_score_is_usually_the_prediction(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    """Not always: scikit-learn counts won comparisons, while the scores sum the margins of lost ones."""
    images, labels = digits
    tensors = fit(images[:1000], labels[:1000], 10, RBF)
    guesses = scores(tensors, images[1000:], RBF).argmax(axis=1)
    predicted = theirs(flat(images[:1000]), labels[:1000], RBF).predict(flat(images[1000:]))
    assert np.mean(guesses == predicted) > 0.98
    assert np.mean(guesses == labels[1000:]) > 0.9


def test_fitting_is_reproducible_bit_for_bit(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    parameters = {**RBF, "deskew": "yes", "shifts": "four", "n_components": 40}
    first, again = (fit(digits[0][:500], digits[1][:500], 10, parameters) for _ in range(2))
    assert first.keys() == again.keys()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("classes", [range(10), (2, 7)])
def test_shifts_are_a_second_fit_to_moved_support_vectors(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], kernel: str, classes: tuple[int, ...]
) -> None:
    """With scikit-learn's machine, on deskewed digits projected to 40 components of its PCA."""
    images, labels = (array[np.isin(digits[1], classes)] for array in digits)
    n_learned = len(labels) // 3
    straight, known = deskew(images), labels[:n_learned]
    pca = PCA(40, svd_solver="full").fit(flat(straight[:n_learned]))
    parameters = {**RBF, "kernel": kernel, "deskew": "yes", "shifts": "four", "n_components": 40}
    rows = theirs(pca.transform(flat(straight[:n_learned])), known, parameters).support_
    moves = [(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0)]
    copies = np.concatenate([shift(straight[rows], down, right) for down, right in moves])
    machine = theirs(pca.transform(flat(copies)), np.tile(known[rows], 5), parameters)
    expected = machine.decision_function(pca.transform(flat(straight[n_learned:])))
    if len(classes) == 2:
        expected = -expected[:, None]
    tensors = fit(images[:n_learned], known, 10, parameters)
    # libsvm stops at a tolerance of 1e-3, and the two projections differ by rounding.
    np.testing.assert_allclose(decisions(tensors, images[n_learned:], parameters), expected, atol=0.01)


def test_deskewing_and_shifts_each_help(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    errors: list[float] = []
    for values in ({}, {"deskew": "yes"}, {"deskew": "yes", "shifts": "four"}, {"deskew": "yes", "shifts": "eight"}):
        parameters = {**RBF, "n_components": 60, **values}
        tensors = fit(digits[0][:800], digits[1][:800], 10, parameters)
        errors.append(float(np.mean(scores(tensors, digits[0][800:], parameters).argmax(axis=1) != digits[1][800:])))
    assert errors[0] < 0.1
    assert errors[1] < 0.85 * errors[0]
    assert errors[2] < 0.9 * errors[1]
    assert errors[3] < 0.9 * errors[1]


def test_as_many_components_as_pixels_change_only_the_rounding(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    images, labels = digits
    for parameters in (RBF, LINEAR):
        margins = [
            decisions(fit(images[:500], labels[:500], 10, values), images[500:], values)
            for values in (parameters, {**parameters, "n_components": 1000})
        ]
        np.testing.assert_allclose(margins[1], margins[0], atol=0.01)


def test_principal_components_are_scikit_learns(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    flat_images = digits[0].reshape(len(digits[0]), -1)
    expected = np.asarray(PCA(30, svd_solver="full").fit(flat_images).components_)
    found = principal_components(flat_images, 30)
    assert found.shape == (784, 30)
    np.testing.assert_allclose(np.abs(expected @ found), np.eye(30), atol=1e-8)


@pytest.mark.parametrize("parameters", [RBF, LINEAR, {**RBF, "shifts": "four", "n_components": 20}])
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


@pytest.mark.parametrize("parameters", [RBF, {**RBF, "shifts": "four", "n_components": 20}])
def test_the_counted_parameters_are_the_maximum(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], parameters: ParameterSet
) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, parameters)
    names = {"support_vectors", "coefficients", "intercepts", "components"} & tensors.keys()
    n_numbers = sum(tensors[name].size for name in names)
    assert n_numbers <= MODEL.describe(DataShape((28, 28, 1), 10, n_train=500, n_valid=100), parameters).n_parameters
