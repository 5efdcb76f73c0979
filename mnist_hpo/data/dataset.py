"""The description of a dataset, available before its files are read: sizes, digests, splits and sources."""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.folder_content import CONTENT, FolderContent

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass(frozen=True)
class SplitPlan:
    """How a named split divides the rows of a dataset."""

    pool: Literal["training files", "all"]
    """The rows that the split permutes. "training files": train and valid are drawn from the training files; test is
    the rows of the test files in file order. "all": train, valid and test are drawn from all four files."""
    n_train: int
    n_valid: int
    n_test: int


class Source(Protocol):
    """A location from which a dataset's files can be read."""

    @property
    def label(self) -> str:
        """A description for people."""
        ...

    @property
    def uri(self) -> str:
        """A URL or a path."""
        ...

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Return a folder that contains the files.

        Args:
            names: names of the IDX files.
            folder: an empty folder for downloaded files.

        Raises:
            UserError: the source does not have the files; the message gives the reason in one line.

        """
        ...


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a dataset of images in four IDX files."""

    name: str
    """The name of its module or of its entry point."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    n_classes: int
    file_sha256: Mapping[str, str]
    """SHA-256 of each uncompressed file, by file name, in the order of `FILES`. Empty if they are unknown: then the
    files' shapes and labels are checked, and their digests are recorded when the dataset is prepared."""
    splits: Mapping[str, SplitPlan]
    sources: tuple[Source, ...]
    """The sources, in the order in which they are tried."""
    content: FolderContent | None = None
    """The content of a user's folder that serves as a dataset (`dataset: {path: DIR}`); None for a registered
    dataset."""
    own_names: Mapping[str, str] = field(default_factory=dict[str, str])
    """The names under which the files are published, by the names in `FILES`; empty if they are the same."""
    is_transposed: bool = False
    """Whether the files store each image column by column."""

    @property
    def n_features(self) -> int:
        """The number of values in an image, which is the length of a row."""
        return math.prod(self.image_shape)

    def shape(self, split: str) -> DataShape:
        """Return the sizes of a split, from which models derive their shapes and costs."""
        plan = self.splits[split]
        return DataShape(self.image_shape, self.n_classes, n_train=plan.n_train, n_valid=plan.n_valid)

    @property
    def digest(self) -> str:
        """The dataset's digest, which studies record; see `digest_of`. Meaningless if `file_sha256` is empty."""
        return digest_of(self.file_sha256)

    def context(self, digest: str) -> dict[str, str]:
        """Return what a study records about its dataset, prepared from files with this digest."""
        content = {} if self.content is None else {CONTENT: self.content.to_json()}
        return {"dataset_digest": digest, **content}


def digest_of(file_sha256: Mapping[str, str]) -> str:
    """Return the digest of a dataset: SHA-256 of the four files' concatenated hexadecimal digests."""
    return hashlib.sha256("".join(file_sha256.values()).encode()).hexdigest()
