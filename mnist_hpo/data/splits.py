"""Split the rows of a dataset into train, valid and test, and save the arrays."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data import prepared as layout
from mnist_hpo.data.dataset import DatasetInfo, SplitPlan
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepared import SplitInfo

SPLIT_KEY = int.from_bytes(b"splits", "big")
"""Key of the permutation that defines a split. It is unlikely to equal a training seed."""


@dataclass(frozen=True)
class Rows:
    """Images with their labels."""

    images: NDArray[np.uint8]
    """[n, n_features]"""
    labels: NDArray[np.uint8]
    """[n]"""

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """Return a copy of the rows with these indices, in this order."""
        return Rows(self.images[rows], self.labels[rows])


def save_split(dataset: DatasetInfo, plan: SplitPlan, train_files: Rows, test_files: Rows, folder: Path) -> SplitInfo:
    """Split a dataset's rows and save the arrays of the split.

    Args:
        dataset: the dataset.
        plan: the split.
        train_files: the rows of the training files, in file order.
        test_files: the rows of the test files, in file order.
        folder: the folder to create for the arrays; `prepared` documents its files.
    """
    pool = _join(train_files, test_files) if plan.pool == "all" else train_files
    order = permutation(len(pool.labels), SPLIT_KEY)
    n_search = plan.n_train + plan.n_valid
    search = pool.take(order[:n_search])
    test = pool.take(order[n_search:]) if plan.pool == "all" else test_files
    folder.mkdir()
    np.save(folder / layout.SEARCH_IMAGES, search.images)
    np.save(folder / layout.SEARCH_LABELS, search.labels)
    np.save(folder / layout.TEST_IMAGES, test.images)
    np.save(folder / layout.TEST_LABELS, test.labels)

    labels = {"train": search.labels[: plan.n_train], "valid": search.labels[plan.n_train :], "test": test.labels}
    return SplitInfo(
        n_train=plan.n_train,
        n_valid=plan.n_valid,
        n_test=plan.n_test,
        permutation_sha256=hashlib.sha256(order.astype("<i8").tobytes()).hexdigest(),
        class_counts={part: np.bincount(labels[part], minlength=dataset.n_classes).tolist() for part in layout.PARTS},
    )


def _join(first: Rows, second: Rows) -> Rows:
    return Rows(
        images=np.concatenate([first.images, second.images]), labels=np.concatenate([first.labels, second.labels])
    )
