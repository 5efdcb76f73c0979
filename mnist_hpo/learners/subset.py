"""The examples that a training with `n_train` learns from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.permutation import permutation

_SUBSET = int.from_bytes(b"n_train", "big")
"""Names the permutation beside those of the epochs, which are counted from 1."""


def training_rows(n_examples: int, n_train: int, seed: int) -> NDArray[np.int64]:
    """Draw rows of the examples, i64[n_train], in a random order.

    They follow from the training's seed. For one seed, a smaller subset is the beginning of a larger one.

    Raises:
        ValueError: there are not so many examples.

    """
    if n_train > n_examples:
        raise ValueError(f"n_train is {n_train}, and there are {n_examples} examples")
    return permutation(n_examples, seed, _SUBSET)[:n_train]
