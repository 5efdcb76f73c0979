"""The subset of examples for a training with `n_train`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.permutation import permutation

_SUBSET = int.from_bytes(b"n_train", "big")
"""The key of the permutation. The permutations of epochs have the keys 1, 2, …"""


def training_rows(n_examples: int, n_train: int, seed: int) -> NDArray[np.int64]:
    """Return the row numbers of a random subset of the examples in random order, i64[n_train].

    They are a function of the training's seed. For one seed, a smaller subset is a prefix of a larger one.

    Raises:
        ValueError: there are fewer examples.

    """
    if n_train > n_examples:
        raise ValueError(f"n_train is {n_train}, but there are {n_examples} examples")
    return permutation(n_examples, seed, _SUBSET)[:n_train]
