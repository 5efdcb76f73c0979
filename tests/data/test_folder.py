"""A folder of images and labels as a dataset: supported formats, splits and error messages."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import STUDY, Arrays, idx_bytes, save_idx, save_keras, save_two_npz
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo
from mnist_hpo.data.folder import find_folder, with_folder_read
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.search.check import check_study
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import parse_study, read_study
from mnist_hpo.spec.study import DatasetFolder
from mnist_hpo.storage.continuing import why_not_continuable


def info_of(folder: Path) -> DatasetInfo:
    return dataset_info(find_folder(folder))


def context_of(folder: Path) -> dict[str, str]:
    info = info_of(folder)
    return info.context(info.digest)


# Formats


def test_a_folder_with_the_original_mnist_files_equals_the_dataset_mnist(mnist_folder: Path) -> None:
    found, mnist = info_of(mnist_folder), dataset_info("mnist")
    assert (found.digest, found.n_classes, found.image_shape) == (mnist.digest, 10, (28, 28, 1))
    assert found.splits == mnist.splits


def save_gzipped(folder: Path, arrays: Arrays) -> Path:
    return save_idx(folder, arrays, gzipped=True)


def save_idx4(folder: Path, arrays: Arrays) -> Path:
    return save_idx(folder, {name.replace("idx3", "idx4"): array for name, array in arrays.items()})


@pytest.mark.parametrize("save", [save_gzipped, save_idx4, save_keras, save_two_npz])
def test_the_same_arrays_give_the_same_dataset_in_every_format(
    coloured: Arrays, tmp_path: Path, save: Callable[[Path, Arrays], Path]
) -> None:
    plain = info_of(save_idx(tmp_path / "plain", coloured))
    other = info_of(save(tmp_path / "other", coloured))
    assert (other.name, other.digest, other.content) == (plain.name, plain.digest, plain.content)
    assert (other.image_shape, other.n_classes) == ((20, 18, 3), 10)


def test_a_channel_dimension_of_size_one_makes_no_difference(coloured: Arrays, tmp_path: Path) -> None:
    grey = {name: array[..., 0] if array.ndim == 4 else array for name, array in coloured.items()}
    with_channel = {name: array[..., None] if array.ndim == 3 else array for name, array in grey.items()}
    first, second = (info_of(save_keras(tmp_path / str(n), arrays)) for n, arrays in enumerate((grey, with_channel)))
    assert first.image_shape == second.image_shape == (20, 18, 1)
    assert first.digest == second.digest


def test_different_images_or_labels_give_a_different_digest(coloured: Arrays, tmp_path: Path) -> None:
    digests = {info_of(save_idx(tmp_path / "same", coloured)).digest}
    for name, array in coloured.items():
        changed = array.copy()
        changed[0] = 9 - changed[0]
        digests.add(info_of(save_idx(tmp_path / name, {**coloured, name: changed})).digest)
    assert len(digests) == 5


# Splits


def test_splits_have_the_proportions_of_mnists(coloured: Arrays, tmp_path: Path) -> None:
    splits = info_of(save_keras(tmp_path, coloured)).splits
    sizes = {name: (plan.n_train, plan.n_valid, plan.n_test) for name, plan in splits.items()}
    assert sizes == {"standard": (1667, 333, 400), "paper": (1440, 480, 480)}


def test_two_folders_with_the_same_content_are_prepared_once(coloured: Arrays, tmp_path: Path) -> None:
    root, lines = tmp_path / "root", list[str]()
    first = prepare(info_of(save_idx(tmp_path / "first", coloured)), root=root)
    second = prepare(info_of(save_keras(tmp_path / "second", coloured)), root=root, log=lines.append)
    assert first.directory == second.directory == root / f"folder-{first.digest[:16]}"
    assert lines == []
    assert second.source == f"local folder {tmp_path / 'first'}"
    assert sorted(path.name for path in root.iterdir()) == [first.name, f"{first.name}.lock"]

    search = load_search(first.directory, "standard")
    assert search.image_shape == first.image_shape == (20, 18, 3)
    images, labels = load_test(first.directory, "standard")
    assert np.array_equal(images.reshape(-1, 20, 18, 3), coloured[TEST_IMAGES])
    assert np.array_equal(labels, coloured[TEST_LABELS])
    rows = np.column_stack([search.development_images, search.development_labels])
    expected = np.column_stack([coloured[TRAIN_IMAGES].reshape(2000, -1), coloured[TRAIN_LABELS]])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, expected))


def test_a_folder_ignores_the_data_source_environment_variable(
    coloured: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users who run MNIST without a network set MNIST_HPO_DATA_SOURCE."""
    monkeypatch.setenv("MNIST_HPO_DATA_SOURCE", str(tmp_path / "mnist"))
    prepared = prepare(info_of(save_idx(tmp_path / "digits", coloured)), root=tmp_path / "root")
    assert prepared.source == f"local folder {tmp_path / 'digits'}"


def test_a_folder_that_changes_before_it_is_prepared_is_rejected(coloured: Arrays, tmp_path: Path) -> None:
    info = info_of(save_idx(tmp_path / "digits", coloured))
    save_idx(tmp_path / "digits", {TEST_LABELS: coloured[TEST_LABELS][::-1]})
    with pytest.raises(UserError, match=f"{TEST_LABELS} has changed while it was being read; run the same command"):
        prepare(info, root=tmp_path / "root")


def test_a_recorded_folder_of_unknown_location_must_be_prepared_already(coloured: Arrays, tmp_path: Path) -> None:
    folder = find_folder(save_idx(tmp_path / "digits", coloured))
    assert folder.content is not None
    recorded = dataset_info(DatasetFolder(path="digits").with_content(folder.content, None))
    with pytest.raises(
        UserError, match=r"no prepared dataset here; prepare it from the folder.*mnist-hpo data --path DIR"
    ):
        prepare(recorded, root=tmp_path / "root")
    prepared = prepare(dataset_info(folder), root=tmp_path / "root")
    assert prepare(recorded, root=tmp_path / "root") == prepared


# The path


def test_the_path_is_relative_to_the_study_file(
    coloured: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_keras(tmp_path / "data" / "digits", coloured)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.yaml").write_text(STUDY.replace("path: digits", "path: ../data/digits"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = with_folder_read(read_study(Path("../studies/small.yaml"))).study.dataset
    assert isinstance(folder, DatasetFolder)
    assert folder.place is not None
    assert folder.place.samefile(tmp_path / "data" / "digits")
    assert folder.path == "../data/digits"


def test_the_path_may_start_with_a_tilde(coloured: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_keras(tmp_path / "digits", coloured)
    assert find_folder(Path("~/digits"), tmp_path / "nowhere").place == tmp_path / "digits"


def test_the_location_of_the_folder_is_not_part_of_a_studys_identity() -> None:
    here, there, named = (
        parse_study(STUDY.replace("{path: digits}", dataset), Path("small.yaml")).study
        for dataset in ("{path: digits}", "{path: /data/digits}", "mnist")
    )
    assert here.sha256() == there.sha256() != named.sha256()


def test_a_study_can_continue_with_a_moved_folder_but_not_with_changed_files(coloured: Arrays, tmp_path: Path) -> None:
    relabelled = {**coloured, TRAIN_LABELS: coloured[TRAIN_LABELS][::-1]}
    recorded = context_of(save_idx(tmp_path / "recorded", coloured))
    moved = context_of(save_keras(tmp_path / "moved", coloured))
    changed = context_of(save_keras(tmp_path / "changed", relabelled))
    study = parse_study(STUDY, Path("small.yaml")).study
    record = {"recorded_identity": study.identity(), "recorded_context": recorded, "n_recorded": 2}
    elsewhere = parse_study(STUDY.replace("path: digits", "path: moved"), Path("small.yaml")).study
    assert why_not_continuable(elsewhere, moved, **record) is None
    message = why_not_continuable(study, changed, **record)
    assert message is not None
    assert re.search(
        rf"other images or labels in the dataset's folder.*:\n  {TRAIN_LABELS}: \w+ then, \w+ now\n", message
    )
    assert not {TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS} & set(re.findall(r"[\w-]+", message))


# Invalid folders and study files


def save_broken(tmp_path: Path, arrays: Arrays, **changes: NDArray[np.generic] | None) -> Path:
    """Write an .npz file with Keras's keys, with some arrays replaced or (None) left out."""
    keys = {"x_train": TRAIN_IMAGES, "y_train": TRAIN_LABELS, "x_test": TEST_IMAGES, "y_test": TEST_LABELS}
    contents = {key: changes.get(key, arrays[name]) for key, name in keys.items()}
    folder = tmp_path / "digits"
    folder.mkdir()
    np.savez(folder / "digits.npz", **{key: array for key, array in contents.items() if array is not None})
    return folder


def message_of(tmp_path: Path, text: str = STUDY) -> str:
    """Return the error message for a study that uses tmp_path/digits; it gives the line of the study file."""
    path = tmp_path / "small.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        check_study(with_folder_read(read_study(path)))
    message = str(error.value)
    assert message.startswith(f"{path}, line 2: dataset")
    return message


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("x_train", lambda x: x / 255, r"digits\.npz: x_train: images of type float64; save them as uint8, from 0"),
        ("x_test", lambda x: x.astype(np.int64), r"x_test: images of type int64; save them as uint8"),
        ("x_train", lambda x: x.reshape(len(x), -1), r"x_train: images of shape \(2000, 1080\); save them as \(n, hei"),
        ("x_train", lambda x: x[:, :0], r"images of shape \(2000, 0, 18, 3\)"),
        (
            "x_test",
            lambda x: x[:, :, 1:],
            r"x_test: images of shape \(20, 17, 3\), but those of .*x_train have \(20, 18",
        ),
        ("x_test", lambda x: x[..., 0], r"images of shape \(20, 18\), but those of .* have \(20, 18, 3\); save all"),
        ("x_train", lambda x: x[1:], r"y_train: 2,000 labels for 1,999 images; save one label per"),
        ("y_test", lambda y: y[:-1], r"y_test: 399 labels for 400 images"),
        ("y_train", lambda y: y.astype(np.float32), r"y_train: labels of type float32; save them as integers from 0"),
        ("y_train", lambda y: np.eye(10, dtype=int)[y], r"labels of shape \(2000, 10\); save one number per image"),
        ("y_train", lambda y: y.astype(int) - 1, r"y_train: a label is -1; number the classes from 0"),
        ("y_train", lambda y: y.astype(int) + 300, r"a label is 309, but at most 256 classes are supported; num"),
        ("y_train", lambda y: np.where(y == 4, 3, y), r"y_train: no image has the label 4, but labels go up to 9"),
        ("y_test", lambda y: np.where(y == 4, 12, y), r"y_train: no image has the label 10, but labels go up to 12"),
        ("y_test", lambda y: None, r"digits\.npz: has no y_test; it contains x_train, y_train, x_test"),
        ("y_test", lambda y: np.array([str(label) for label in y]), r"labels of type str\d+; save them as integers"),
        ("y_test", lambda y: np.array(list(y), dtype=object), r"digits\.npz: cannot be read as \.npz: Object arrays"),
    ],
)
def test_an_invalid_array_is_reported_with_its_value_and_how_to_fix_it(
    coloured: Arrays,
    tmp_path: Path,
    key: str,
    change: Callable[[NDArray[np.uint8]], NDArray[np.generic]],
    expected: str,
) -> None:
    names = {"x_train": TRAIN_IMAGES, "y_train": TRAIN_LABELS, "x_test": TEST_IMAGES, "y_test": TEST_LABELS}
    folder = save_broken(tmp_path, coloured, **{key: change(coloured[names[key]])})
    message = message_of(tmp_path)
    assert str(folder / "digits.npz") in message
    assert re.search(expected, message), message


def test_folders_without_test_rows_with_too_few_rows_or_with_one_class_are_rejected(
    coloured: Arrays, tmp_path: Path
) -> None:
    few = coloured[TRAIN_IMAGES][:5], coloured[TRAIN_LABELS][:5]
    changes = {
        "x_test: no test images": {"x_test": coloured[TEST_IMAGES][:0], "y_test": coloured[TEST_LABELS][:0]},
        "x_train: 5 training images; use at least 6": {"x_train": few[0], "y_train": few[1]},
        "y_train: every label is 0": {key: np.zeros(n, int) for key, n in (("y_train", 2000), ("y_test", 400))},
    }
    for expected, arrays in changes.items():
        folder = save_broken(tmp_path, coloured, **arrays)
        assert expected in message_of(tmp_path)
        shutil.rmtree(folder)


def test_a_folder_that_is_missing_or_has_the_wrong_files_is_rejected(coloured: Arrays, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert f"dataset.path: {folder}: no such folder" in message_of(tmp_path)
    folder.mkdir()
    assert f"{folder}: contains no images and labels; put four IDX files there" in message_of(tmp_path)
    save_keras(folder, coloured)
    save_keras(folder, coloured, "more.npz")
    assert f"{folder}: contains digits.npz, more.npz; put four IDX files there" in message_of(tmp_path)
    (folder / "more.npz").unlink()
    save_idx(folder, {TRAIN_IMAGES: coloured[TRAIN_IMAGES]})
    assert f"{folder}: contains both IDX files and digits.npz; keep only one format" in message_of(tmp_path)
    (folder / "digits.npz").unlink()
    assert f"{folder}: no {TRAIN_LABELS} in this folder (looked for " in message_of(tmp_path)
    shutil.rmtree(folder)
    folder.write_text("")
    assert f"{folder}: is a file; give the folder that contains it" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not an IDX file; it starts with the bytes"),
        (b"PK\x03\x04 and so on", "not an IDX file; it starts with the bytes 50 4b 03 04"),
        (b"\x1f\x8b but not gzip", "cannot be read: "),
        (
            bytes([0, 0, 8, 1, 0, 0, 1, 144]) + bytes(399),
            "the header says 400 bytes of shape (400,), but",
        ),
        (bytes([0, 0, 8, 3, 0, 0, 1]), "not an IDX file"),
        (idx_bytes(np.zeros(400, np.float32), 0x0D), "labels of type float32"),
        (idx_bytes(np.zeros(400, np.int32) - 7, 0x0C), "a label is -7"),
    ],
)
def test_a_damaged_idx_file_is_reported_with_its_path(
    coloured: Arrays, tmp_path: Path, data: bytes, expected: str
) -> None:
    save_idx(tmp_path / "digits", coloured)
    (tmp_path / "digits" / TEST_LABELS).write_bytes(data)
    assert f"{tmp_path / 'digits' / TEST_LABELS}: {expected}" in message_of(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:1000], lambda data: b"no zip" + data[200:]])
def test_a_damaged_npz_file_is_reported_with_its_path(
    coloured: Arrays, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = save_keras(tmp_path / "digits", coloured) / "digits.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: cannot be read as .npz: " in message_of(tmp_path)


def test_an_npy_file_named_npz_is_rejected(coloured: Arrays, tmp_path: Path) -> None:
    path = save_keras(tmp_path / "digits", coloured) / "digits.npz"
    with path.open("wb") as file:
        np.save(file, coloured[TRAIN_IMAGES])
    assert f"{path}: cannot be read as .npz: " in message_of(tmp_path)


def test_a_batch_larger_than_the_training_split_is_rejected(coloured: Arrays, tmp_path: Path) -> None:
    save_keras(tmp_path / "digits", {name: array[:120] for name, array in coloured.items()})
    expected = (
        "100 training examples in the split standard do not fill a batch of 128, the default; set a lower batch_size"
    )
    assert expected in message_of(tmp_path, STUDY.replace("batch_size: 50, ", ""))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("{}", "dataset.path: is missing"),
        ("{paht: digits}", "dataset.paht: unknown key; did you mean 'path'?; known are path"),
        ("{path: digits, format: idx}", "dataset.format: unknown key"),
        ("{path: ''}", "dataset.path: must not be empty, not ''"),
        ("{path: 3}", "dataset.path: must be text, not 3"),
        ("[digits]", "dataset: must be a dataset's name or {path: DIR}, not ['digits']"),
        ("digits", "dataset: unknown dataset 'digits'; did you mean 'emnist_digits'?; known are emnist_digits"),
    ],
)
def test_a_wrong_dataset_entry_in_the_study_file_is_reported(tmp_path: Path, dataset: str, expected: str) -> None:
    assert expected in message_of(tmp_path, STUDY.replace("{path: digits}", dataset))
