"""Write folders of images and labels in the supported formats, and a study that uses one."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

Arrays = dict[str, NDArray[np.uint8]]

STUDY = """\
name: small
dataset: {path: digits}
budget: {n_trials: 2, max_epochs: 1}
slots: 2
sampler: random
space:
  width: {type: categorical, choices: [16, 24]}
fixed: {depth: 1, batch_size: 50, learning_rate: 0.01}
"""


def idx_bytes(array: NDArray[np.generic], code: int = 0x08) -> bytes:
    """Return an IDX file, encoded independently of the code under test."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return bytes([0, 0, code, array.ndim]) + sizes + big_endian.tobytes()


def save_idx(folder: Path, arrays: Mapping[str, NDArray[np.uint8]], *, gzipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx_bytes(array)
        (folder / (f"{name}.gz" if gzipped else name)).write_bytes(gzip.compress(data) if gzipped else data)
    return folder


def save_keras(folder: Path, arrays: Mapping[str, NDArray[np.generic]], name: str = "digits.npz") -> Path:
    """Write one .npz file, with the usual int64 labels."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / name,
        x_train=arrays[TRAIN_IMAGES],
        y_train=arrays[TRAIN_LABELS].astype(np.int64),
        x_test=arrays[TEST_IMAGES],
        y_test=arrays[TEST_LABELS].astype(np.int64),
    )
    return folder


def save_two_npz(folder: Path, arrays: Mapping[str, NDArray[np.uint8]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "train.npz", images=arrays[TRAIN_IMAGES], labels=arrays[TRAIN_LABELS])
    np.savez_compressed(folder / "test.npz", images=arrays[TEST_IMAGES], labels=arrays[TEST_LABELS])
    return folder
