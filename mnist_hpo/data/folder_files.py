"""Read and check a user's folder of images and labels. It holds one of:

    four IDX files with MNIST's names, gzipped or not;
    one .npz file with Keras's keys x_train, y_train, x_test and y_test;
    train.npz and test.npz, each with the keys images and labels.

Images are uint8 [n, height, width] or [n, height, width, channels]. Labels are integers [n] from 0 without gaps.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from mnist_hpo.data.idx import find_idx, idx_names, read_any_idx
from mnist_hpo.spec.errors import UserError, first_line

_PARTS = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
_KERAS_KEYS: Mapping[str, str] = dict(zip(_PARTS, ("x_train", "y_train", "x_test", "y_test"), strict=True))
_IMAGES, _LABELS = "images", "labels"
_IDX4 = {name: name.replace("idx3", "idx4") for name in (TRAIN_IMAGES, TEST_IMAGES)}
"""The correct names for IDX files of images with channels; MNIST's names are accepted too."""
_MAX_CLASSES = 256
"""Labels are stored as bytes."""
VALID_DIVISOR = 6
"""One in 6 training rows is used for validation, as in MNIST's standard split (10,000 of 60,000)."""
_FORMATS = (
    "put four IDX files there with MNIST's names, or one .npz file with x_train, y_train, x_test and y_test, or "
    "train.npz and test.npz with images and labels"
)


@dataclass(frozen=True)
class _FileArray:
    """An array as it was read from a file."""

    origin: str
    """The file and, for an .npz file, the key; for messages."""
    array: NDArray[Any]


def read_arrays(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Read and check the four arrays of a folder.

    Returns:
        The arrays by MNIST's file names: images uint8 [n, height, width] or uint8 [n, height, width, channels], and
        labels uint8 [n]. A channel dimension of size 1 is removed, so that the same images always give the same array.

    Raises:
        UserError: the folder or a file is missing, cannot be read or has invalid content.

    """
    read = _read_files(folder)
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        _check_images(read[images])
        _check_labels(read[labels], n_images=len(read[images].array))
    _check_same_shape(read[TRAIN_IMAGES], read[TEST_IMAGES])
    if len(read[TRAIN_LABELS].array) < VALID_DIVISOR:
        raise UserError(
            f"{read[TRAIN_IMAGES].origin}: {len(read[TRAIN_LABELS].array)} training images; use at least "
            f"{VALID_DIVISOR}, since one in {VALID_DIVISOR} is used for validation"
        )
    if not len(read[TEST_LABELS].array):
        raise UserError(f"{read[TEST_IMAGES].origin}: no test images; the champion is tested on them")
    _check_classes(read[TRAIN_LABELS], read[TEST_LABELS])
    return {name: _canonical(part.array) for name, part in read.items()}


def _read_files(folder: Path) -> dict[str, _FileArray]:
    try:
        if not folder.exists():
            raise UserError(f"{folder}: no such folder")
        if not folder.is_dir():
            raise UserError(f"{folder}: is a file; give the folder that contains it")
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}") from None
    archives = [name for name in names if name.endswith(".npz")]
    has_idx = any(spelling in names for name in (*_PARTS, *_IDX4.values()) for spelling in idx_names(name))
    if has_idx and archives:
        raise UserError(f"{folder}: contains both IDX files and {archives[0]}; keep only one format")
    if has_idx:
        return {name: _read_idx(folder, name) for name in _PARTS}
    if archives == ["test.npz", "train.npz"]:
        return {
            **_read_npz(folder / "train.npz", {TRAIN_IMAGES: _IMAGES, TRAIN_LABELS: _LABELS}),
            **_read_npz(folder / "test.npz", {TEST_IMAGES: _IMAGES, TEST_LABELS: _LABELS}),
        }
    if len(archives) == 1:
        return _read_npz(folder / archives[0], _KERAS_KEYS)
    found = f"contains {', '.join(archives)}" if archives else "contains no images and labels"
    raise UserError(f"{folder}: {found}; {_FORMATS}")


def _read_idx(folder: Path, name: str) -> _FileArray:
    with_channels = _IDX4.get(name, name)
    is_idx4 = any((folder / spelling).is_file() for spelling in idx_names(with_channels))
    path = find_idx(folder, with_channels if is_idx4 else name)
    return _FileArray(str(path), read_any_idx(path))


def _read_npz(path: Path, keys: Mapping[str, str]) -> dict[str, _FileArray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys.values() if key not in archive.files]
            if missing:
                found = ", ".join(archive.files) or "nothing"
                raise UserError(f"{path}: has no {', '.join(missing)}; it contains {found}")
            return {name: _FileArray(f"{path}: {key}", archive[key]) for name, key in keys.items()}
    except (OSError, ValueError, EOFError, TypeError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as .npz: {first_line(error)}") from None


def _check_images(images: _FileArray) -> None:
    array = images.array
    if array.dtype != np.uint8:
        raise UserError(
            f"{images.origin}: images of type {array.dtype.name}; save them as uint8, from 0 to 255, such as "
            "np.rint(images * 255).astype(np.uint8) for images from 0 to 1"
        )
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise UserError(
            f"{images.origin}: images of shape {array.shape}; save them as (n, height, width) or "
            "(n, height, width, channels)"
        )


def _check_labels(labels: _FileArray, n_images: int) -> None:
    array = labels.array
    if array.dtype.kind not in "iu":
        raise UserError(f"{labels.origin}: labels of type {array.dtype.name}; save them as integers from 0")
    if array.ndim != 1:
        raise UserError(f"{labels.origin}: labels of shape {array.shape}; save one number per image, as (n,)")
    if len(array) != n_images:
        raise UserError(f"{labels.origin}: {len(array):,} labels for {n_images:,} images; save one label per image")
    if len(array) and array.min() < 0:
        raise UserError(f"{labels.origin}: a label is {array.min()}; number the classes from 0")
    if len(array) and array.max() >= _MAX_CLASSES:
        raise UserError(
            f"{labels.origin}: a label is {array.max()}, but at most {_MAX_CLASSES} classes are supported; number them "
            "from 0 without gaps"
        )


def _check_same_shape(train: _FileArray, test: _FileArray) -> None:
    shapes = [_with_channels(part.array).shape[1:] for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{test.origin}: images of shape {test.array.shape[1:]}, but those of {train.origin} have "
            f"{train.array.shape[1:]}; save all images with the same shape"
        )


def _check_classes(train: _FileArray, test: _FileArray) -> None:
    """Check that every class occurs in the training labels, since a model cannot learn a class without examples."""
    n_classes = 1 + int(max(train.array.max(), test.array.max()))
    missing = np.setdiff1d(np.arange(n_classes), train.array)
    if len(missing):
        raise UserError(
            f"{train.origin}: no image has the label {missing[0]}, but labels go up to {n_classes - 1}; number the "
            "classes from 0 without gaps, and include training images of each"
        )
    if n_classes == 1:
        raise UserError(f"{train.origin}: every label is 0; there must be at least two classes")


def _with_channels(images: NDArray[Any]) -> NDArray[Any]:
    return images if images.ndim == 4 else images[..., None]


def _canonical(array: NDArray[Any]) -> NDArray[np.uint8]:
    squeezed = array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array
    return np.ascontiguousarray(squeezed, np.uint8)
