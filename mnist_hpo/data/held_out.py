"""The held-out test rows. Only the `champion` package may import this module: the search must not see test data."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.prepared import TEST_IMAGES, TEST_LABELS, open_array


def load_test(directory: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Open the test rows of a split, memory-mapped and read-only.

    Args:
        directory: `PreparedDataset.directory`.
        split: a key of `PreparedDataset.splits`.

    Returns:
        Images, uint8 [n_test, n_features], 0 to 255, and labels, uint8 [n_test].

    Raises:
        UserError: the dataset is not prepared in this directory, or has no such split.
    """
    return open_array(directory, split, TEST_IMAGES), open_array(directory, split, TEST_LABELS)
