"""Nearest neighbours predict as scikit-learn does, on real digits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.deskew import deskew
from mnist_hpo.data.shift import shift
from mnist_hpo.models.knn import MODEL, describe, fit, nearest, scores
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import ParameterSet

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]

DEFAULT = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}
N_LEARNED = 2000


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> Digits:
    arrays = load_search(few_digits, "standard")
    return np.array(arrays.train_images[:3000]).reshape(-1, 28, 28, 1), np.array(arrays.train_labels[:3000])


def setting(**values: str | float) -> ParameterSet:
    return {**DEFAULT, **values}  # type: ignore[dict-item]


def guesses(digits: Digits, parameters: ParameterSet) -> NDArray[np.int64]:
    images, labels = digits
    tensors = fit(images[:N_LEARNED], labels[:N_LEARNED], 10, parameters)
    return scores(tensors, images[N_LEARNED:], parameters).argmax(axis=1)


@pytest.mark.parametrize(("p", "k", "power"), [(1, 5, 0), (2, 1, 1), (2, 4, 1), (2, 7, 0), (3, 4, 1)])
def test_predictions_and_distances_equal_scikit_learns(digits: Digits, p: int, k: int, power: int) -> None:
    """The neighbours are exact, although only 200 of 2,000 images are compared in another norm than L2."""
    images, labels = digits
    queries = images[N_LEARNED : N_LEARNED + 100]
    reference = KNeighborsClassifier(k, p=p, weights="distance" if power else "uniform", algorithm="brute")
    reference.fit(images[:N_LEARNED].reshape(N_LEARNED, -1) / 255, labels[:N_LEARNED])
    parameters = setting(p=p, k=k, weight_power=power)
    tensors = fit(images[:N_LEARNED], labels[:N_LEARNED], 10, parameters)
    expected, _ = reference.kneighbors(queries.reshape(100, -1) / 255)
    distances, rows = nearest(tensors, queries, parameters)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    assert np.all(rows < N_LEARNED)
    found = scores(tensors, queries, parameters).argmax(axis=1)
    assert np.array_equal(found, reference.predict(queries.reshape(100, -1) / 255))


def test_the_distance_with_shifts_is_the_smallest_over_all_shifts(digits: Digits) -> None:
    images, labels = digits
    parameters = setting(shift=1, n_candidates=300, k=3, deskew="yes")
    tensors = fit(images[:300], labels[:300], 10, parameters)
    distances, _ = nearest(tensors, images[N_LEARNED : N_LEARNED + 10], parameters)
    stored = deskew(images[:300]).reshape(300, -1).astype(float) / 255
    straight = deskew(images[N_LEARNED : N_LEARNED + 10])
    moved = [shift(straight, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    differences = np.stack([each.reshape(10, -1) for each in moved])[:, :, None] / 255 - stored
    expected = np.sort(np.sqrt((differences**2).sum(axis=3)).min(axis=0), axis=1)[:, :3]
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


def test_deskewing_shifting_and_the_l3_norm_each_help(digits: Digits) -> None:
    settings = (setting(), setting(deskew="yes"), setting(deskew="yes", shift=1, p=3, n_candidates=100))
    errors = [float(np.mean(guesses(digits, each) != digits[1][N_LEARNED:])) for each in settings]
    assert errors[0] < 0.09
    assert errors[1] < 0.75 * errors[0]
    assert errors[2] < 0.85 * errors[1]


def test_an_image_has_the_same_scores_in_any_batch(digits: Digits) -> None:
    images, labels = digits
    tensors = fit(images[:N_LEARNED], labels[:N_LEARNED], 10, setting(p=3))
    together = scores(tensors, images[N_LEARNED:], setting(p=3))
    assert np.array_equal(scores(tensors, images[N_LEARNED + 600 : N_LEARNED + 601], setting(p=3)), together[600:601])
    assert scores(tensors, images[:0], setting()).shape == (0, 10)


@pytest.mark.parametrize("classes", [(4,), (1, 4, 6)])
def test_a_class_without_training_examples_is_never_predicted(digits: Digits, classes: tuple[int, ...]) -> None:
    seen = np.isin(digits[1][:N_LEARNED], classes)
    tensors = fit(digits[0][:N_LEARNED][seen], digits[1][:N_LEARNED][seen], 10, setting())
    found = scores(tensors, digits[0][N_LEARNED:], setting())
    assert np.all(np.isfinite(found))
    assert set(found.argmax(axis=1)) == set(classes)


def test_more_neighbours_than_examples_are_all_examples(digits: Digits) -> None:
    parameters = setting(k=30, weight_power=100.0)
    tensors = fit(digits[0][:12], digits[1][:12], 10, parameters)
    # The nearest of them is the image itself, and its vote is by far the largest.
    assert np.array_equal(scores(tensors, digits[0][:12], parameters).argmax(axis=1), digits[1][:12])
    assert nearest(tensors, digits[0][:5], parameters)[0].shape == (5, 12)


def test_the_counted_parameters_are_the_stored_numbers(digits: Digits) -> None:
    tensors = fit(digits[0][:500], digits[1][:500], 10, setting())
    described = describe(DataShape((28, 28, 1), 10, n_train=500, n_valid=100), setting())
    assert tensors["images"].size + tensors["labels"].size == described.n_parameters
