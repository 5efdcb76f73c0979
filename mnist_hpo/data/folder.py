"""Use a folder of images and labels as a dataset: `dataset: {path: DIR}` in a study file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.dataset import TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan, digest_of
from mnist_hpo.data.folder_files import VALID_DIVISOR, read_arrays
from mnist_hpo.data.idx import idx_sha256
from mnist_hpo.data.sources import LocalFolder
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.folder_content import FolderContent
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.spec.study import DatasetFolder

_DIGEST_LENGTH = 16
"""The number of hexadecimal digits of the digest in a folder dataset's name."""


def with_folder_read(file: StudyFile) -> StudyFile:
    """Return a study file with the content of its dataset folder read. A file without such a folder is unchanged.

    Raises:
        UserError: see `read_arrays`; the message also gives the study file's line.

    """
    folder = file.study.dataset
    if isinstance(folder, str):
        return file
    try:
        return file.with_dataset(find_folder(Path(folder.path), file.path.parent))
    except UserError as error:
        file.fail(("dataset", "path"), str(error))


def find_folder(path: Path, base: Path = Path()) -> DatasetFolder:
    """Read and check a folder, and return it with a description of its content.

    Args:
        path: the folder: an absolute path, a path relative to `base`, or a path that starts with `~`.
        base: the folder that a relative path starts from.

    Raises:
        UserError: see `read_arrays`.

    """
    expanded = path
    with contextlib.suppress(RuntimeError):  # No user of this name.
        expanded = path.expanduser()
    place = (base / expanded).absolute()
    return DatasetFolder(path=str(path)).with_content(_read_content(place), place)


def _read_content(place: Path) -> FolderContent:
    arrays = read_arrays(place)
    images, labels = arrays[TRAIN_IMAGES], arrays[TRAIN_LABELS]
    height, width, channels = (*images.shape[1:], 1)[:3]
    return FolderContent(
        image_shape=(height, width, channels),
        n_classes=1 + int(labels.max()),
        n_train=len(labels),
        n_test=len(arrays[TEST_LABELS]),
        file_sha256={name: idx_sha256(array) for name, array in arrays.items()},
    )


def folder_dataset(folder: DatasetFolder) -> DatasetInfo:
    """Return a folder as a dataset. Its name contains its digest, so the same content is prepared only once.

    Raises:
        ValueError: the folder has not been read; see `with_folder_read`.

    """
    content = folder.content
    if content is None:
        raise ValueError(f"the folder {folder.path} has not been read")
    n_all = content.n_train + content.n_test
    n_valid, n_fifth = content.n_train // VALID_DIVISOR, n_all // 5
    return DatasetInfo(
        name=f"folder-{digest_of(content.file_sha256)[:_DIGEST_LENGTH]}",
        image_shape=content.image_shape,
        n_classes=content.n_classes,
        file_sha256=content.file_sha256,
        splits={
            "standard": SplitPlan("training files", content.n_train - n_valid, n_valid, content.n_test),
            "paper": SplitPlan("all", n_all - 2 * n_fifth, n_fifth, n_fifth),
        },
        sources=() if folder.place is None else (LocalFolder(folder.place),),
        content=content,
    )


def read_unchanged(content: FolderContent, place: Path) -> dict[str, NDArray[np.uint8]]:
    """Read a folder's arrays again; see `read_arrays`.

    Raises:
        UserError: see `read_arrays`; also if an array differs from `content`.

    """
    arrays = read_arrays(place)
    for name, array in arrays.items():
        if idx_sha256(array) != content.file_sha256[name]:
            raise UserError(f"{place}: {name} has changed while it was being read; run the same command again")
    return arrays
