"""Fixtures with real MNIST, prepared in the user's cache as for any study."""

import dataclasses
import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import Arrays, idx_bytes
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.data.splits import SPLIT_KEY


@pytest.fixture(autouse=True)
def no_named_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_HPO_DATA_SOURCE", raising=False)


@pytest.fixture(scope="session")
def mnist() -> PreparedDataset:
    return prepare(dataset_info("mnist"), log=print)


@pytest.fixture(scope="session")
def mnist_files(mnist: PreparedDataset) -> dict[str, NDArray[np.uint8]]:
    """The contents of the four original files, rebuilt from the prepared dataset."""
    search = load_search(mnist.directory, "standard")
    test_images, test_labels = load_test(mnist.directory, "standard")
    original_order = np.argsort(permutation(60_000, SPLIT_KEY))
    return {
        TRAIN_IMAGES: search.development_images[original_order].reshape(-1, 28, 28),
        TRAIN_LABELS: search.development_labels[original_order],
        TEST_IMAGES: test_images.reshape(-1, 28, 28),
        TEST_LABELS: np.asarray(test_labels),
    }


@pytest.fixture(scope="session")
def mnist_folder(mnist_files: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four original files, uncompressed."""
    folder = tmp_path_factory.mktemp("mnist-idx")
    for name, array in mnist_files.items():
        (folder / name).write_bytes(idx_bytes(array))
    return folder


@pytest.fixture
def tiny(mnist_files: dict[str, NDArray[np.uint8]]) -> DatasetInfo:
    """A small dataset with the first rows of MNIST, which is prepared quickly."""
    return dataclasses.replace(
        dataset_info("mnist"),
        name="tiny-mnist",
        file_sha256={name: hashlib.sha256(data).hexdigest() for name, data in tiny_idx(mnist_files).items()},
        splits={
            "standard": SplitPlan("training files", n_train=250, n_valid=50, n_test=100),
            "paper": SplitPlan("all", n_train=240, n_valid=80, n_test=80),
        },
    )


@pytest.fixture
def tiny_folder(tiny: DatasetInfo, mnist_files: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Path:
    """The tiny dataset's four files, gzipped."""
    folder = tmp_path / "tiny-idx"
    folder.mkdir()
    for name, data in tiny_idx(mnist_files).items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    return folder


def tiny_idx(mnist_files: dict[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    n_rows = {TRAIN_IMAGES: 300, TRAIN_LABELS: 300}
    return {name: idx_bytes(array[: n_rows.get(name, 100)]) for name, array in mnist_files.items()}


@pytest.fixture(scope="session")
def coloured(mnist_files: dict[str, NDArray[np.uint8]]) -> Arrays:
    """A dataset of another shape: 2,000 training and 400 test images of 20 × 18 pixels in three channels."""
    n_rows = {TRAIN_IMAGES: 2000, TRAIN_LABELS: 2000}
    few = {name: array[: n_rows.get(name, 400)] for name, array in mnist_files.items()}

    def colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        middle = images[:, 4:24, 5:23]
        return np.stack([middle, 255 - middle, images[:, 5:25, 5:23]], axis=-1)

    return {name: colour(array) if array.ndim == 3 else np.array(array) for name, array in few.items()}


@pytest.fixture
def start_prepare(tmp_path: Path, mnist_folder: Path) -> Callable[[], "subprocess.Popen[str]"]:
    """Start a process that prepares all of MNIST in tmp_path/root and prints its log and the digest."""
    program = """if True:
        from mnist_hpo.data.prepare import prepare
        from mnist_hpo.data.registry import dataset_info
        print(prepare(dataset_info("mnist"), log=lambda line: print(line, flush=True)).digest)
    """
    environment = os.environ | {
        "MNIST_HPO_DATA_DIR": str(tmp_path / "root"),
        "MNIST_HPO_DATA_SOURCE": str(mnist_folder),
    }

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)

    return start
