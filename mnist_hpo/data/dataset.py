"""What is known of a dataset before its files are read: sizes, digests, splits and sources."""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.folder_content import CONTENT, FolderContent

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


@dataclass(frozen=True)
class SplitPlan:
    """How a named split divides the rows of a dataset."""

    pool: Literal["training files", "all"]
    """What is drawn from. The training files: they give train and valid, and the test files are the test rows, in
    their own order. All: both pairs of files together give train, valid and test."""
    n_train: int
    n_valid: int
    n_test: int


class Source(Protocol):
    """A place that a dataset's files can be read from."""

    @property
    def label(self) -> str:
        """The place in words."""
        ...

    @property
    def uri(self) -> str:
        """The place for machines: a URL, or a path."""
        ...

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Return a folder with the files.

        Args:
            names: of the IDX files.
            folder: an empty one, for what has to be fetched.

        Raises:
            UserError: with the reason in one line, if this place does not have them.

        """
        ...


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset of images in four IDX files, without reading it."""

    name: str
    """The name of its file or of its entry point."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    n_classes: int
    file_sha256: Mapping[str, str]
    """SHA-256 of each file when uncompressed, by file name: TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, in
    this order."""
    splits: Mapping[str, SplitPlan]
    sources: tuple[Source, ...]
    """In the order in which they are tried."""
    content: FolderContent | None = None
    """What the folder holds that a study file names; None for a dataset with a name of its own."""

    @property
    def n_features(self) -> int:
        """Numbers of an image: the length of a row."""
        return math.prod(self.image_shape)

    def shape(self, split: str) -> DataShape:
        """The sizes of a split, of which the models' shapes and costs are functions."""
        plan = self.splits[split]
        return DataShape(self.image_shape, self.n_classes, n_train=plan.n_train, n_valid=plan.n_valid)

    @property
    def digest(self) -> str:
        """The dataset's digest, which studies record: SHA-256 over the four files' hexadecimal digests, in order."""
        return digest_of(self.file_sha256)

    def context(self) -> dict[str, str]:
        """What a study records of its dataset."""
        content = {} if self.content is None else {CONTENT: self.content.to_json()}
        return {"dataset_digest": self.digest, **content}


def digest_of(file_sha256: Mapping[str, str]) -> str:
    """See `DatasetInfo.digest`."""
    return hashlib.sha256("".join(file_sha256.values()).encode()).hexdigest()
