"""Answers are doubtful for pictures without a digit, and hardly ever for digits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.data.arrays import SearchArrays, load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.doubt import detector as training
from mnist_hpo.doubt.doubt import SHARE, Detector, Doubt
from mnist_hpo.doubt.drawings import Drawings


@pytest.fixture(scope="module")
def search(mnist: PreparedDataset) -> SearchArrays:
    return load_search(mnist.directory, "standard")


@pytest.fixture(scope="module")
def drawings(search: SearchArrays) -> Drawings:
    return Drawings(
        np.asarray(search.train_images[:5000]).reshape(-1, 28, 28), np.asarray(search.train_labels[:5000]), 7
    )


def sure(n: int) -> NDArray[np.float32]:
    """Return the answers of a model that is sure of all digits."""
    answers = np.full((n, 10), np.log(1e-4), np.float32)
    answers[:, 3] = np.log(1 - 9e-4)
    return answers


def test_drawings_are_a_function_of_the_seed(search: SearchArrays) -> None:
    images, labels = np.asarray(search.train_images[:500]).reshape(-1, 28, 28), np.asarray(search.train_labels[:500])
    first, again, other = (Drawings(images, labels, seed) for seed in (3, 3, 4))
    expected = first.others(27)
    np.testing.assert_array_equal(again.others(27), expected)
    assert (other.others(27) != expected).any()


def test_drawings_have_ink_in_the_middle_20_pixels_as_digits_have(drawings: Drawings) -> None:
    for pictures in (drawings.digits(20), drawings.others(90)):
        assert (pictures.max(axis=(1, 2)) == 255).all()
        for picture in pictures:
            rows, columns = np.nonzero(picture.any(axis=1))[0], np.nonzero(picture.any(axis=0))[0]
            assert max(rows[-1] - rows[0], columns[-1] - columns[0]) < 20


@pytest.fixture(scope="module")
def small_detector(search: SearchArrays) -> Detector:
    """A detector of a twentieth of the examples."""
    with pytest.MonkeyPatch.context() as patch:
        for name, number in (("_N_DIGITS", 1000), ("_N_REDRAWN", 800), ("_N_OTHERS", 1800), ("_N_EPOCHS", 5)):
            patch.setattr(training, name, number)
        images, labels = np.asarray(search.train_images[:6000]), np.asarray(search.train_labels[:6000])
        return Detector(tuple(training.train_detector(images, labels, 0)))


@pytest.fixture(scope="module")
def doubt(small_detector: Detector, search: SearchArrays) -> Doubt:
    images = np.asarray(search.valid_images[:5000])
    return Doubt.fit(small_detector, images, sure(len(images)))


def test_few_digits_and_most_other_pictures_are_doubtful(
    doubt: Doubt, search: SearchArrays, drawings: Drawings
) -> None:
    digits = np.asarray(search.valid_images[5000:])
    others = drawings.others(300).reshape(-1, 784)
    assert doubt.doubtful(digits, sure(len(digits))).mean() < 2.5 * SHARE
    assert doubt.doubtful(others, sure(len(others))).mean() > 0.5


def test_an_answer_of_which_the_model_is_not_sure_is_doubtful(doubt: Doubt, search: SearchArrays) -> None:
    digits = np.asarray(search.valid_images[:200])
    unsure = np.full((len(digits), 10), np.log(0.1), np.float32)
    assert doubt.doubtful(digits, unsure).all()


def test_doubt_is_read_back_as_it_was_written(doubt: Doubt, drawings: Drawings, tmp_path: Path) -> None:
    from safetensors.numpy import save

    pictures = drawings.others(50).reshape(-1, 784)
    again = Doubt.load(doubt.fields(), Detector.load(save(dict(doubt.detector.tensors()))))
    np.testing.assert_array_equal(again.doubtful(pictures, sure(50)), doubt.doubtful(pictures, sure(50)))


@pytest.mark.parametrize(
    "damage",
    [
        {"threshold": float("nan")},
        {"scales": [1.0, 1.0]},
        {"scales": [1.0, 0.0, 1.0]},
        {"centres": ["a", 1, 1]},
    ],
)
def test_damaged_fields_are_refused(doubt: Doubt, damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Doubt.load(doubt.fields() | damage, doubt.detector)
