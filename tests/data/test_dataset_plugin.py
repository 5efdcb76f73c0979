"""A dataset can be added as one new file: here, in a third-party package installed outside this repository."""

import hashlib
import os
from pathlib import Path

import pytest
from command import Folder, assert_refused, make_folder
from folders import Arrays, idx_bytes, save_idx

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

DATASET = '''\
"""Coloured digits, which the package contains."""

from pathlib import Path

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan
from mnist_hpo.data.sources import LocalFolder

DATASET = DatasetInfo(
    name="coloured",
    image_shape=(20, 18, 3),
    n_classes=10,
    file_sha256={
        TRAIN_IMAGES: "{TRAIN_IMAGES}",
        TRAIN_LABELS: "{TRAIN_LABELS}",
        TEST_IMAGES: "{TEST_IMAGES}",
        TEST_LABELS: "{TEST_LABELS}",
    },
    splits={"small": SplitPlan("training files", n_train=1700, n_valid=300, n_test=400)},
    sources=(LocalFolder(Path(__file__).parent / "digits"),),
)
'''

STUDY = """\
name: small
dataset: coloured
split: small
budget: {n_trials: 2, max_epochs: 1}
slots: 2
sampler: random
space:
  width: {type: categorical, choices: [16, 24]}
fixed: {depth: 1, batch_size: 50, learning_rate: 0.01}
"""


@pytest.fixture
def dataset(coloured: Arrays) -> str:
    """The module above, with the digests of its files."""
    text = DATASET
    for constant, name in [
        ("TRAIN_IMAGES", TRAIN_IMAGES),
        ("TRAIN_LABELS", TRAIN_LABELS),
        ("TEST_IMAGES", TEST_IMAGES),
        ("TEST_LABELS", TEST_LABELS),
    ]:
        text = text.replace(f"{{{constant}}}", hashlib.sha256(idx_bytes(coloured[name])).hexdigest())
    return text


def install(site: Path, text: str, entry: str = "coloured = someones_dataset:DATASET") -> dict[str, str]:
    """Install the package as pip does, and return the environment variables with which Python finds it."""
    metadata = site / "someones_dataset-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-dataset\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mnist_hpo.datasets]\n{entry}\n")
    (site / "someones_dataset.py").write_text(text)
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])),
        "MNIST_HPO_DATA_DIR": str(site.parent / "datasets"),
    }


def folder_with(tmp_path: Path) -> Folder:
    folder = make_folder(tmp_path, "dataset")
    (folder.path / "small.yaml").write_text(STUDY)
    return folder


@pytest.mark.slow
def test_a_study_can_use_a_dataset_from_another_package(tmp_path: Path, coloured: Arrays, dataset: str) -> None:
    environment = install(tmp_path / "site", dataset)
    save_idx(tmp_path / "site" / "digits", coloured)
    folder = folder_with(tmp_path)
    folder.run(**environment)
    trials = folder.call("trials", "small", "--json", **environment).json()
    assert [trial["state"] for trial in trials] == ["complete"] * 2
    assert min(trial["valid_loss"]["1"] for trial in trials) < 2
    for trial in trials:
        width = trial["params"]["width"]
        assert trial["n_parameters"] == 20 * 18 * 3 * width + width + 10 * width + 10


def test_the_data_command_prepares_the_dataset(tmp_path: Path, coloured: Arrays, dataset: str) -> None:
    environment = install(tmp_path / "site", dataset)
    save_idx(tmp_path / "site" / "digits", coloured, gzipped=True)
    shown = folder_with(tmp_path).call("data", "coloured", "--json", **environment).json()
    assert shown["source"] == f"local folder {tmp_path / 'site' / 'digits'}"
    assert list(shown["splits"]) == ["small"]
    assert shown["image_shape"] == [20, 18, 3]


@pytest.mark.slow
def test_the_best_trial_on_the_dataset_is_retrained_and_tested(tmp_path: Path, coloured: Arrays, dataset: str) -> None:
    environment = install(tmp_path / "site", dataset)
    save_idx(tmp_path / "site" / "digits", coloured)
    folder = folder_with(tmp_path)
    folder.run(**environment)
    retrained = folder.call("retrain", "small", "--seeds", "1", "--json", **environment).json()
    assert retrained["reproduced"] == "exact"
    assert retrained["test_accuracy_mean"] > 0.3


def test_a_dataset_that_is_not_installed_is_unknown(tmp_path: Path) -> None:
    refused = folder_with(tmp_path).call("run", "small.yaml")
    assert_refused(refused, "small.yaml, line 2: dataset: unknown dataset 'coloured'; known are emnist_digits, ")


def test_an_unknown_split_of_the_dataset_is_rejected(tmp_path: Path, dataset: str) -> None:
    environment = install(tmp_path / "site", dataset.replace('"small": Split', '"standard": Split'))
    refused = folder_with(tmp_path).call("run", "small.yaml", **environment)
    assert_refused(refused, "line 3: split: unknown split of coloured 'small'; known are standard")


def test_a_missing_folder_of_the_dataset_is_reported(tmp_path: Path, dataset: str) -> None:
    environment = install(tmp_path / "site", dataset)
    refused = folder_with(tmp_path).call("run", "small.yaml", **environment)
    assert refused.code == 2
    assert f"{tmp_path / 'site' / 'digits'}: no such folder" in refused.err


@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        (
            "coloured",
            "import nobody_has_this",
            "coloured (someones_dataset:DATASET) cannot be loaded: No module",
        ),
        ("coloured", "DATASET = 3", "the dataset coloured: its file exports int, not a DatasetInfo"),
        ("coloured", None, "the dataset coloured: its file exports the name 'mine'; make both names the same"),
        ("mnist", "", "mnist = someones_dataset:DATASET of mnist_hpo.datasets: another dataset has this name"),
    ],
)
def test_a_broken_dataset_module_is_reported_by_name(
    tmp_path: Path, dataset: str, entry: str, text: str | None, message: str
) -> None:
    broken = dataset.replace('name="coloured"', 'name="mine"') if text is None else text
    environment = install(tmp_path / "site", broken, f"{entry} = someones_dataset:DATASET")
    assert_refused(folder_with(tmp_path).call("run", "small.yaml", **environment), message)
