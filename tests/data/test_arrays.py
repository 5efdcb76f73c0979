import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError

SPLITS = ["standard", "paper"]


def test_the_four_original_files_can_be_rebuilt_from_the_arrays(mnist: PreparedDataset, mnist_folder):
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in mnist_folder.iterdir()}
    assert found == mnist.file_sha256


@pytest.mark.parametrize("split", SPLITS)
def test_shapes_and_types(mnist: PreparedDataset, split: str):
    info, search = mnist.splits[split], load_search(mnist.directory, split)
    test_images, test_labels = load_test(mnist.directory, split)
    for images, labels, n in [
        (search.train_images, search.train_labels, info.n_train),
        (search.valid_images, search.valid_labels, info.n_valid),
        (search.development_images, search.development_labels, info.n_train + info.n_valid),
        (test_images, test_labels, info.n_test),
    ]:
        assert images.shape == (n, 784)
        assert labels.shape == (n,)
        assert images.dtype == labels.dtype == np.uint8
    assert search.image_shape == (28, 28, 1)


@pytest.mark.parametrize("split", SPLITS)
def test_train_valid_and_test_contain_every_row_exactly_once(mnist: PreparedDataset, mnist_files, split: str):
    search = load_search(mnist.directory, split)
    parts = [
        (search.train_images, search.train_labels),
        (search.valid_images, search.valid_labels),
        load_test(mnist.directory, split),
    ]
    rows = [np.column_stack(part) for part in parts]
    originals = [
        np.column_stack([mnist_files[images].reshape(-1, 784), mnist_files[labels]])
        for images, labels in [(TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)]
    ]
    assert row_hashes(np.concatenate(rows)) == row_hashes(np.concatenate(originals))
    if split == "standard":
        assert np.array_equal(rows[2], originals[1])


def row_hashes(rows) -> list[int]:
    return sorted(hash(row.tobytes()) for row in rows)


def test_the_splits_are_fixed(mnist: PreparedDataset):
    permutations = {name: split.permutation_sha256 for name, split in mnist.splits.items()}
    assert permutations == {
        "standard": "17cca33c06e9b566861309d7a53ecf67f6f6972eebecc4ab64d31b6eaeecdbd5",
        "paper": "09087b727468ca4cd5afba7eca4b5c3e3762f34d9d6b38a005cd142fc5426408",
    }
    firsts = {name: load_search(mnist.directory, name).valid_labels[:8].tolist() for name in SPLITS}
    assert firsts == {"standard": [9, 6, 4, 7, 0, 6, 3, 5], "paper": [5, 1, 0, 3, 2, 0, 4, 4]}


@pytest.mark.parametrize("split", SPLITS)
def test_class_counts_match_the_arrays(mnist: PreparedDataset, split: str):
    search = load_search(mnist.directory, split)
    labels = {
        "train": search.train_labels,
        "valid": search.valid_labels,
        "test": load_test(mnist.directory, split)[1],
    }
    counts = {part: np.bincount(values, minlength=10).tolist() for part, values in labels.items()}
    assert mnist.splits[split].class_counts == counts


def test_arrays_are_memory_mapped_shared_and_read_only(mnist: PreparedDataset):
    search = load_search(mnist.directory, "standard")
    assert isinstance(search.development_images, np.memmap)
    assert np.shares_memory(search.train_images, search.development_images)
    assert np.shares_memory(search.valid_images, search.development_images)
    assert np.shares_memory(search.valid_labels, search.development_labels)
    with pytest.raises(ValueError, match="read-only"):
        search.train_images[0, 0] = 1


def test_an_unknown_split_is_rejected_and_the_known_ones_are_listed(mnist: PreparedDataset):
    with pytest.raises(UserError, match="splits prepared here: standard, paper"):
        load_search(mnist.directory, "train")


@pytest.mark.parametrize("load", [load_search, load_test])
def test_an_unprepared_dataset_is_rejected_and_the_command_to_prepare_it_is_named(tmp_path, load):
    with pytest.raises(UserError, match="no prepared dataset here; `mnist-hpo data` prepares it"):
        load(tmp_path, "standard")


def test_reading_arrays_imports_neither_slow_packages_nor_the_test_rows():
    program = "import sys, mnist_hpo.data.arrays; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in modules
    tops = {module.partition(".")[0] for module in modules}
    assert not tops & {"tensorflow_datasets", "tensorflow", "requests", "pydantic", "jax", "mlflow", "optuna"}
    assert "mnist_hpo.data.held_out" not in modules
