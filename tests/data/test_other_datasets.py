"""Fashion-MNIST from its Debian package, and the datasets that only a local folder can supply."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from folders import idx_bytes, save_idx
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.dataset import TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.data.sources import DebianPackage
from mnist_hpo.spec.errors import UserError

Arrays = dict[str, NDArray[np.uint8]]

FASHION = dataset_info("fashion_mnist")
DEBIAN = FASHION.sources[0]
assert isinstance(DEBIAN, DebianPackage)
needs_package = pytest.mark.skipif(
    not DEBIAN.folder.is_dir(), reason=f"Debian's package {DEBIAN.package} is not installed"
)


@needs_package
def test_fashion_mnist_is_prepared_from_the_debian_package() -> None:
    prepared = prepare(FASHION, log=print)
    assert prepared.digest == FASHION.digest
    assert prepared.source in ("Debian package dataset-fashion-mnist", *(source.label for source in FASHION.sources))
    counts = prepared.splits["standard"].class_counts
    assert counts["test"] == [1000] * 10
    assert np.add(counts["train"], counts["valid"]).tolist() == [6000] * 10
    arrays = load_search(prepared.directory, "standard")
    # Clothes cover more of an image than digits do.
    assert 60 < arrays.train_images[:1000].mean() < 85


def test_an_absent_debian_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    absent = DebianPackage("dataset-fashion-mnist", tmp_path / "nowhere")
    info = dataclasses.replace(FASHION, sources=(absent,))
    with pytest.raises(UserError, match=r"Debian package .*: not installed; on Debian: apt-get install dataset"):
        prepare(info, root=tmp_path / "root")


# Datasets without known digests, with the first rows of MNIST as their files


@pytest.fixture
def few(mnist_files: Arrays) -> Arrays:
    return {name: array[: 300 if name.startswith("train") else 100] for name, array in mnist_files.items()}


def small(name: str, tiny: DatasetInfo) -> DatasetInfo:
    return dataclasses.replace(dataset_info(name), splits=tiny.splits)


def test_the_digests_of_kmnist_are_recorded_when_it_is_prepared(few: Arrays, tiny: DatasetInfo, tmp_path: Path) -> None:
    info, root = small("kmnist", tiny), tmp_path / "root"
    prepared = prepare(info, source=save_idx(tmp_path / "files", few, gzipped=True), root=root)
    assert prepared.file_sha256 == tiny.file_sha256
    assert info.context(prepared.digest) == {"dataset_digest": tiny.digest}
    lines: list[str] = []
    assert prepare(info, root=root, log=lines.append) == prepared
    assert lines == []


def test_another_dataset_has_another_digest(few: Arrays, tiny: DatasetInfo, tmp_path: Path) -> None:
    changed = few | {TRAIN_LABELS: few[TRAIN_LABELS][::-1]}
    info = small("kmnist", tiny)
    first, second = (
        prepare(info, source=save_idx(tmp_path / str(number), arrays), root=tmp_path / f"root {number}")
        for number, arrays in enumerate((few, changed))
    )
    assert first.digest != second.digest


def test_emnist_files_have_other_names_and_their_images_become_upright(
    few: Arrays, tiny: DatasetInfo, tmp_path: Path
) -> None:
    info = small("emnist_digits", tiny)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, array in few.items():
        lying = array.swapaxes(1, 2) if array.ndim == 3 else array
        (folder / info.own_names[name]).write_bytes(idx_bytes(lying))
    prepared = prepare(info, source=folder, root=tmp_path / "root")
    upright = prepare(tiny, source=save_idx(tmp_path / "upright", few), root=tmp_path / "root")
    assert prepared.digest != upright.digest
    for found, expected in zip(
        load_test(prepared.directory, "standard"), load_test(upright.directory, "standard"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        load_search(prepared.directory, "paper").development_images,
        load_search(upright.directory, "paper").development_images,
    )


def refusal(info: DatasetInfo, folder: Path, arrays: Mapping[str, NDArray[np.generic]]) -> str:
    folder.mkdir()
    for name, array in arrays.items():
        code = 0x08 if array.dtype == np.uint8 else 0x0B
        (folder / name).write_bytes(idx_bytes(array, code))
    with pytest.raises(UserError) as error:
        prepare(info, source=folder, root=folder / "root")
    return str(error.value)


def test_files_of_another_size_type_or_class_are_rejected(few: Arrays, tiny: DatasetInfo, tmp_path: Path) -> None:
    info = small("kmnist", tiny)
    short = refusal(info, tmp_path / "short", few | {TRAIN_IMAGES: few[TRAIN_IMAGES][:299]})
    assert f"{TRAIN_IMAGES}: has dtype uint8 and shape (299, 28, 28); kmnist needs uint8 and (300, 28, 28)" in short
    assert short.endswith("Put kmnist's four files there, gzipped or not.")
    wide = refusal(info, tmp_path / "wide", few | {TEST_LABELS: few[TEST_LABELS].astype(np.int16)})
    assert f"{TEST_LABELS}: has dtype >i2 and shape (100,)" in wide
    letters = refusal(info, tmp_path / "letters", few | {TRAIN_LABELS: few[TRAIN_LABELS] + np.uint8(1)})
    assert f"{TRAIN_LABELS}: contains the label 10; kmnist has the labels 0 to 9" in letters


@pytest.mark.parametrize("name", ["kmnist", "emnist_digits"])
def test_without_files_the_error_names_them_and_the_option(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prepare(dataset_info(name), root=tmp_path)
    message = str(error.value)
    first = dataset_info(name).own_names.get(TRAIN_IMAGES, TRAIN_IMAGES)
    assert f"To fix this, copy the four files {first}, " in message
    assert f"mnist-hpo data {name} --data-source DIR" in message
