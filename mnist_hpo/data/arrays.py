"""The train and valid rows, which the search uses. NumPy only, so that workers start quickly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.prepared import SEARCH_IMAGES, SEARCH_LABELS, load_prepared, open_array


@dataclass(frozen=True)
class SearchArrays:
    """Memory-mapped, read-only views of one file of images and one of labels; nothing is copied.

    Images are uint8 [n, n_features], 0 to 255; labels are uint8 [n]. The rows are in the order of the split's
    permutation.
    """

    image_shape: tuple[int, int, int]
    """Height, width and channels: `images.reshape(-1, *image_shape)` gives one 3-D array per image, without a copy."""
    train_images: NDArray[np.uint8]
    """[n_train, n_features]"""
    train_labels: NDArray[np.uint8]
    """[n_train]"""
    valid_images: NDArray[np.uint8]
    """[n_valid, n_features]"""
    valid_labels: NDArray[np.uint8]
    """[n_valid]"""
    development_images: NDArray[np.uint8]
    """[n_train + n_valid, n_features]: train, then valid. The champion is re-trained on these."""
    development_labels: NDArray[np.uint8]
    """[n_train + n_valid]"""


def load_search(directory: Path, split: str) -> SearchArrays:
    """Open the train and valid rows of a split.

    Args:
        directory: `PreparedDataset.directory`.
        split: a key of `PreparedDataset.splits`.

    Raises:
        UserError: the dataset is not prepared in this directory, or has no such split.
    """
    images = open_array(directory, split, SEARCH_IMAGES)
    labels = open_array(directory, split, SEARCH_LABELS)
    prepared = load_prepared(directory)
    n_train = prepared.splits[split].n_train
    return SearchArrays(
        image_shape=prepared.image_shape,
        train_images=images[:n_train],
        train_labels=labels[:n_train],
        valid_images=images[n_train:],
        valid_labels=labels[n_train:],
        development_images=images,
        development_labels=labels,
    )
