"""`mnist-hpo augment` draws what a training step would train on."""

import io
import subprocess

import matplotlib.image
import numpy as np
import pytest
from command import PROGRAM, Folder, assert_refused
from numpy.typing import NDArray

from mnist_hpo.api.augmentation import N_COPIES, augmented, strengths_of, strengths_of_trial
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord

SEARCHED = """\
name: shaken
budget: {n_trials: 1, max_epochs: 1}
slots: 1
sampler: random
space:
  rotation: {type: float, low: 0.0, high: 25.0}
  translation: {type: int, low: 0, high: 3}
  elastic: {type: float, low: 4.0, high: 36.0, log: true}
  elastic_sigma: {type: float, low: 3.0, high: 5.0}
  input_noise: {type: categorical, choices: [0.3, 0.0, 0.1]}
fixed: {erasing: 0.5, n_train: 128, width: 8, depth: 1}
"""


def study_of(space: dict[str, object] | None = None, model: str = "mlp", **fixed: float) -> Study:
    other = {"cnn": "channels", "mlp": "width", "svm": "C"}[model]
    space = space or {other: {"type": "categorical", "choices": [8, 16]}}
    fields = {"name": "shaken", "model": model, "budget": {"n_trials": 1, "max_epochs": 1}, "space": space}
    return Study.model_validate({**fields, "fixed": fixed})


def drawn(study: Study, seed: int = 0) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    blocks = augmented(study, strengths_of(study), seed=seed, log=print)
    return [(block.originals, block.copies) for block in blocks]


def picture(content: bytes) -> NDArray[np.float32]:
    return matplotlib.image.imread(io.BytesIO(content), format="png")


@pytest.fixture
def searched(folder: Folder) -> Folder:
    (folder.path / "shaken.yaml").write_text(SEARCHED)
    return folder


def test_a_searched_study_has_three_grids_with_their_values(searched: Folder) -> None:
    outcome = searched.call("augment", "shaken.yaml", "--out", "grid.png")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[:3] == [
        "weakest: elastic 4 (elastic_sigma 5), erasing 0.5",
        "middle: rotation 12.5, translation 2, elastic 12 (elastic_sigma 4), erasing 0.5, input_noise 0.1",
        "strongest: rotation 25, translation 3, elastic 36 (elastic_sigma 3), erasing 0.5, input_noise 0.3",
    ]
    height, width, _ = picture((searched.path / "grid.png").read_bytes()).shape
    assert width > 3 * (N_COPIES + 1) * 28
    assert height > 10 * 28


@pytest.mark.slow
def test_a_trial_is_drawn_with_its_own_strengths(searched: Folder) -> None:
    assert searched.call("run", "shaken.yaml").code == 0
    rotation = searched.call("trials", "shaken", "--json").json()[0]["params"]["rotation"]
    by_name = searched.call("augment", "shaken", "--trial", "0")
    assert by_name.out.startswith(f"trial 0: rotation {rotation:.4g}, ")
    assert (searched.path / "shaken-augmented.png").exists()
    assert_refused(searched.call("augment", "shaken", "--trial", "1"), "no trial 1", "1 trials, counted from 0")
    assert searched.call("augment", "shaken").out.startswith("weakest: ")


def test_a_study_without_augmentation_is_refused(folder: Folder) -> None:
    before = folder.files()
    assert_refused(folder.call("augment", "small.yaml"), "small: its trainings change no image", "rotation, ", "fixed:")
    assert folder.files() == before


def test_an_output_that_cannot_be_written_is_refused_before_the_study_is_read(folder: Folder) -> None:
    in_no_folder = folder.call("augment", "nowhere.yaml", "--out", "no/grid.png")
    assert_refused(in_no_folder, "--out no/grid.png: there is no folder")
    assert_refused(folder.call("augment", "nowhere.yaml", "--out", "small.yaml"), "not a PNG picture", "--force")
    assert_refused(folder.call("augment", "nowhere.yaml"), "no such study file")


def test_the_picture_can_be_piped(searched: Folder) -> None:
    with (searched.path / "piped.png").open("wb") as file:
        command = [PROGRAM, "augment", "shaken.yaml", "-o", "-"]
        subprocess.run(command, cwd=searched.path, env=searched.environment(), check=True, stdout=file)
    assert picture((searched.path / "piped.png").read_bytes()).ndim == 3


def test_there_is_a_training_digit_of_each_class(mnist: PreparedDataset) -> None:
    ((originals, copies),) = drawn(study_of(rotation=10.0))
    assert originals.shape == (10, 28, 28, 1)
    assert copies.shape == (10, N_COPIES, 28, 28, 1)
    arrays = load_search(mnist.directory, "standard")
    images = np.asarray(arrays.train_images).reshape(-1, 28, 28, 1)
    for label, original in enumerate(originals):
        (same,) = np.nonzero((images == np.round(255 * original)).all(axis=(1, 2, 3)))
        assert label in arrays.train_labels[same]


def test_another_seed_draws_other_digits_and_the_same_seed_the_same(mnist: PreparedDataset) -> None:
    first, again, other = (drawn(study_of(rotation=10.0), seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_strength_of_zero_changes_nothing_and_a_larger_one_changes_more(mnist: PreparedDataset) -> None:
    space: dict[str, object] = {"rotation": {"type": "float", "low": 0.0, "high": 40.0}}
    changes = [np.abs(copies - originals[:, None]).mean() for originals, copies in drawn(study_of(space))]
    assert changes[0] < 1e-3  # Pixels are rounded to bfloat16.
    assert changes[0] < changes[1] < changes[2]


def test_erasing_sets_pixels_to_zero_and_keeps_the_others(mnist: PreparedDataset) -> None:
    ((originals, copies),) = drawn(study_of(model="cnn", erasing=1.0))
    is_kept = np.isclose(copies, originals[:, None], atol=1e-6)
    assert np.all(is_kept | (copies == 0))
    assert not is_kept.all(axis=(2, 3, 4)).all()


def test_the_noise_on_the_input_is_drawn(mnist: PreparedDataset) -> None:
    ((originals, copies),) = drawn(study_of(input_noise=0.3))
    noise = copies - originals[:, None]
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert not np.allclose(noise[:, 0], noise[:, 1])


def test_mixup_draws_mixtures_of_two_digits(mnist: PreparedDataset) -> None:
    ((originals, copies),) = drawn(study_of(mixup=1.0))
    other = originals[::-1]
    for copy in copies.swapaxes(0, 1):
        share = ((copy - other) * (originals - other)).sum() / ((originals - other) ** 2).sum()
        assert 0 < share < 1
        np.testing.assert_allclose(copy, share * originals + (1 - share) * other, atol=1e-5)


def test_studies_and_trials_that_change_no_image_are_refused() -> None:
    with pytest.raises(UserError, match="the model svm trains on unchanged images"):
        strengths_of(study_of(model="svm"))
    space: dict[str, object] = {"rotation": {"type": "float", "low": 0.0, "high": 40.0}}
    with pytest.raises(UserError, match="trial 7 of shaken changes no image"):
        strengths_of_trial(study_of(space), TrialRecord(7, "complete", {"rotation": 0.0}))
