"""A prepared dataset on disk: its layout, its metadata, and checks that its files are unchanged.

In `<root>/<dataset>/`:

    metadata.json               source, digests, sizes and class counts
    records/                    TFDS's array_record files
    <split>/search_images.npy   uint8 [n_train + n_valid, n_features]; the train rows come first
    <split>/search_labels.npy   uint8 [n_train + n_valid]
    <split>/test_images.npy     uint8 [n_test, n_features]
    <split>/test_labels.npy     uint8 [n_test]
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.dataset import DatasetInfo
from mnist_hpo.spec.errors import UserError

SEARCH_IMAGES = "search_images.npy"
SEARCH_LABELS = "search_labels.npy"
TEST_IMAGES = "test_images.npy"
TEST_LABELS = "test_labels.npy"

_METADATA = "metadata.json"
_FORMAT = 1
"""Increment this when the layout or the splits change; a dataset of another version is prepared again."""

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class SplitInfo:
    """The sizes and class counts of a split."""

    n_train: int
    n_valid: int
    n_test: int
    permutation_sha256: str
    """Digest of the permutation that defines the split, as little-endian int64."""
    class_counts: dict[Part, list[int]]
    """For each part, the number of rows of each class."""


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset that has been prepared in a folder."""

    name: str
    directory: Path
    source: str
    """The label of the source that provided the files."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    file_sha256: dict[str, str]
    """SHA-256 of each uncompressed IDX file, by file name."""
    digest: str
    """See `DatasetInfo.digest`."""
    splits: dict[str, SplitInfo]


@dataclass(frozen=True)
class _Fingerprint:
    """The values that detect a change of a file."""

    size: int
    mtime_ns: int
    sha256: str


def load_prepared(directory: Path) -> PreparedDataset:
    """Read the metadata of a prepared dataset, without checking its arrays.

    Raises:
        UserError: the directory contains no prepared dataset, or its metadata is damaged.
    """
    try:
        return _read_metadata(directory)[0]
    except UserError as error:
        raise UserError(f"{error}; `mnist-hpo data` prepares it") from error


def load_intact(directory: Path, dataset: DatasetInfo) -> PreparedDataset:
    """Read the metadata of a prepared dataset and check that its arrays are unchanged.

    A file with its recorded size and modification time counts as unchanged, as in git. A file with its recorded size
    but another modification time is hashed.

    Raises:
        UserError: the dataset is not prepared or is damaged, or it was prepared from other files, with other splits
            or by another version.
    """
    prepared, fingerprints = _read_metadata(directory)
    planned = {name: (plan.n_train, plan.n_valid, plan.n_test) for name, plan in dataset.splits.items()}
    found = {name: (split.n_train, split.n_valid, split.n_test) for name, split in prepared.splits.items()}
    is_other = dataset.file_sha256 and prepared.file_sha256 != dataset.file_sha256
    if is_other or found != planned:
        raise UserError(f"{directory}: prepared from other files or with other splits than those of {dataset.name}")
    for split in dataset.splits:
        for name in (SEARCH_IMAGES, SEARCH_LABELS, TEST_IMAGES, TEST_LABELS):
            path = directory / split / name
            recorded = fingerprints.get(f"{split}/{name}")
            if recorded is None or not _is_unchanged(path, recorded):
                raise UserError(f"{path}: missing or changed since it was prepared")
    return prepared


def save_metadata(prepared: PreparedDataset) -> None:
    """Write the metadata, including the fingerprints of the arrays, which must exist already."""
    document = asdict(prepared)
    del document["directory"]  # A prepared dataset may be moved.
    arrays = sorted(prepared.directory.glob("*/*.npy"))
    document["arrays"] = {f"{path.parent.name}/{path.name}": asdict(_fingerprint(path)) for path in arrays}
    document["format"] = _FORMAT
    (prepared.directory / _METADATA).write_text(json.dumps(document, indent=1) + "\n")


def open_array(directory: Path, split: str, name: str) -> NDArray[np.uint8]:
    """Memory-map an array of a split, read-only: uint8 with the shape that this module's docstring gives.

    Raises:
        UserError: the dataset is not prepared in this directory, or has no such split.
    """
    try:
        return np.load(directory / split / name, mmap_mode="r")
    except FileNotFoundError:
        known = ", ".join(load_prepared(directory).splits)
        raise UserError(f"{directory / split / name}: no such file; the splits prepared here: {known}") from None


def _read_metadata(directory: Path) -> tuple[PreparedDataset, dict[str, _Fingerprint]]:
    """Return the dataset, and the arrays' fingerprints by `<split>/<file>`."""
    path = directory / _METADATA
    try:
        document = json.loads(path.read_text())
        if document.pop("format") != _FORMAT:
            raise UserError(f"{directory}: prepared by another version of mnist-hpo")
        fingerprints = {name: _Fingerprint(**values) for name, values in document.pop("arrays").items()}
        splits = {name: SplitInfo(**values) for name, values in document.pop("splits").items()}
        # Earlier versions supported only images of 28 × 28 grey pixels and did not write the shape.
        height, width, channels = document.pop("image_shape", (28, 28, 1))
        image_shape = (height, width, channels)
        prepared = PreparedDataset(directory=directory, splits=splits, image_shape=image_shape, **document)
        return prepared, fingerprints
    except FileNotFoundError:
        raise UserError(f"{directory}: no prepared dataset here") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error!r})") from error


def _fingerprint(path: Path) -> _Fingerprint:
    stat = path.stat()
    return _Fingerprint(stat.st_size, stat.st_mtime_ns, _sha256(path))


def _is_unchanged(path: Path, recorded: _Fingerprint) -> bool:
    try:
        stat = path.stat()
        if stat.st_size != recorded.size:
            return False
        return stat.st_mtime_ns == recorded.mtime_ns or _sha256(path) == recorded.sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
