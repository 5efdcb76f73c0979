"""The rows that a search may see: train and valid. NumPy only, so that workers start quickly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.prepared import SEARCH_IMAGES, SEARCH_LABELS, load_prepared, open_array


@dataclass(frozen=True)
class SearchArrays:
    """Memory-mapped, read-only views of one file each for images and labels; nothing is copied.

    Images are uint8 [n, n_features], 0 to 255; labels are uint8 [n]. The rows are in the split's drawn order.
    """

    image_shape: tuple[int, int, int]
    """Height, width and channels: `images.reshape(-1, *image_shape)` is a view of images as they look."""
    train_images: NDArray[np.uint8]
    """[n_train, n_features]"""
    train_labels: NDArray[np.uint8]
    """[n_train]"""
    valid_images: NDArray[np.uint8]
    """[n_valid, n_features]"""
    valid_labels: NDArray[np.uint8]
    """[n_valid]"""
    development_images: NDArray[np.uint8]
    """[n_train + n_valid, n_features]: train, then valid; what a champion is re-trained on."""
    development_labels: NDArray[np.uint8]
    """[n_train + n_valid]"""


def load_search(directory: Path, split: str) -> SearchArrays:
    """Opens the search rows of a split.

    Args:
        directory: `PreparedDataset.directory`.
        split: a name in `PreparedDataset.splits`.

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
