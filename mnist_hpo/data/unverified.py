"""Read the IDX files of a dataset whose digests are unknown. Their shapes and labels are checked instead."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo
from mnist_hpo.data.idx import read_any_idx
from mnist_hpo.spec.errors import UserError


def read_unverified(info: DatasetInfo, paths: Mapping[str, Path]) -> dict[str, NDArray[np.uint8]]:
    """Read a dataset's files.

    Args:
        info: the dataset; its split `standard` gives the number of rows of the files.
        paths: the files, by the names in `FILES`.

    Returns:
        uint8 arrays by the same names: [n, height, width] for images, [n] for labels.

    Raises:
        UserError: a file cannot be read, or its dtype, shape or labels are not those of the dataset.

    """
    height, width, _ = info.image_shape
    plan = info.splits["standard"]
    n_train, n_test = plan.n_train + plan.n_valid, plan.n_test
    shapes = {
        TRAIN_IMAGES: (n_train, height, width),
        TRAIN_LABELS: (n_train,),
        TEST_IMAGES: (n_test, height, width),
        TEST_LABELS: (n_test,),
    }
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, shape in shapes.items():
        array = read_any_idx(paths[name])
        if array.dtype != np.uint8 or array.shape != shape:
            raise UserError(
                f"{paths[name]}: has dtype {array.dtype} and shape {array.shape}; {info.name} needs uint8 and {shape}"
            )
        if array.ndim == 1 and array.max() >= info.n_classes:
            raise UserError(
                f"{paths[name]}: contains the label {array.max()}; {info.name} has the labels 0 to {info.n_classes - 1}"
            )
        arrays[name] = array
    return arrays
