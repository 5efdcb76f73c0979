"""Forests stored as arrays predict as scikit-learn does, on real digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from mnist_hpo.data.arrays import load_search
from mnist_hpo.models.forest import MODEL, describe, fit, probabilities, scores
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import ParameterSet

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]

DEFAULT = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}
FEW = {"n_trees": 20}
N_LEARNED = 1500


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> Digits:
    arrays = load_search(few_digits, "standard")
    return np.array(arrays.train_images[:2700]).reshape(-1, 28, 28, 1), np.array(arrays.train_labels[:2700])


def setting(**values: str | float) -> ParameterSet:
    """Return the defaults, with other values for some; those that are None are left out, as in a study."""
    return {name: value for name, value in {**DEFAULT, **FEW, **values}.items() if value is not None}


@pytest.mark.parametrize(
    ("estimator", "values", "options"),
    [
        (RandomForestClassifier, {}, {}),
        (RandomForestClassifier, {"max_depth": 4, "criterion": "entropy"}, {"max_depth": 4, "criterion": "entropy"}),
        (ExtraTreesClassifier, {"trees": "extra"}, {}),
        (
            ExtraTreesClassifier,
            {"trees": "extra", "min_samples_leaf": 3, "max_features": 0.1},
            {"min_samples_leaf": 3, "max_features": 0.1},
        ),
    ],
)
@pytest.mark.parametrize("classes", [range(10), (2, 7)])
def test_probabilities_equal_scikit_learns(
    digits: Digits, estimator: type[Any], values: dict[str, Any], options: dict[str, Any], classes: tuple[int, ...]
) -> None:
    images, labels = (array[np.isin(digits[1], classes)] for array in digits)
    n_learned, parameters = len(labels) // 2, setting(**values)
    flat = images.reshape(len(images), -1)
    reference = estimator(20, random_state=0, **options).fit(flat[:n_learned], labels[:n_learned])
    tensors = fit(images[:n_learned], labels[:n_learned], 10, parameters)
    expected = np.zeros((len(images) - n_learned, 10))
    expected[:, reference.classes_] = reference.predict_proba(flat[n_learned:])
    found = probabilities(tensors, images[n_learned:], parameters)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    is_clear = np.diff(np.sort(expected, axis=1)[:, -2:])[:, 0] > 1e-6
    guesses = scores(tensors, images[n_learned:], parameters).argmax(axis=1)
    assert np.array_equal(guesses[is_clear], reference.predict(flat[n_learned:])[is_clear])


@pytest.mark.parametrize("trees", ["random", "extra"])
def test_a_forest_recognises_digits_and_more_of_them_deskewed(digits: Digits, trees: str) -> None:
    errors: list[float] = []
    for deskew in ("no", "yes"):
        parameters = setting(trees=trees, n_trees=50, deskew=deskew)
        tensors = fit(digits[0][:N_LEARNED], digits[1][:N_LEARNED], 10, parameters)
        guesses = scores(tensors, digits[0][N_LEARNED:], parameters).argmax(axis=1)
        errors.append(float(np.mean(guesses != digits[1][N_LEARNED:])))
    assert errors[0] < 0.11
    assert errors[1] < errors[0]


def test_fitting_is_reproducible_bit_for_bit(digits: Digits) -> None:
    first, again = (fit(digits[0][:500], digits[1][:500], 10, setting()) for _ in range(2))
    assert first.keys() == again.keys()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


def test_an_image_has_the_same_scores_in_any_batch(digits: Digits) -> None:
    """More images than fit into one chunk."""
    tensors = fit(digits[0][:500], digits[1][:500], 10, setting())
    together = scores(tensors, digits[0], setting())
    assert np.array_equal(scores(tensors, digits[0][2000:2001], setting()), together[2000:2001])
    assert scores(tensors, digits[0][:0], setting()).shape == (0, 10)


@pytest.mark.parametrize("classes", [(4,), (1, 4, 6)])
def test_a_class_without_training_examples_is_never_predicted(digits: Digits, classes: tuple[int, ...]) -> None:
    seen = np.isin(digits[1], classes)
    tensors = fit(digits[0][seen], digits[1][seen], 10, setting())
    found = scores(tensors, digits[0], setting())
    assert np.all(np.isfinite(found))
    assert set(found.argmax(axis=1)) == set(classes)


@pytest.mark.parametrize("values", [{}, {"max_depth": 3}, {"min_samples_leaf": 5}])
def test_the_counted_parameters_are_the_maximum(digits: Digits, values: dict[str, Any]) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, setting(**values))
    is_leaf = tensors["children"][:, 0] == np.arange(len(tensors["children"]))
    described = describe(DataShape((28, 28, 1), 10, n_train=500, n_valid=100), setting(**values))
    assert 10 * is_leaf.sum() + 4 * (~is_leaf).sum() <= described.n_parameters


def test_equal_leaves_are_stored_once(digits: Digits) -> None:
    """Every leaf of a tree without limits holds a single class."""
    tensors = fit(digits[0][:500], digits[1][:500], 10, setting())
    assert np.array_equal(tensors["shares"], np.eye(10)[::-1])
