"""A seeded permutation that stays the same in every version of NumPy and on every platform."""

import numpy as np
from numpy.typing import NDArray


def permutation(n: int, key: int, subkey: int = 0) -> NDArray[np.int64]:
    """Draws the permutation of 0..n-1 that belongs to a key, as int64 [n].

    NumPy promises that a bit generator's raw stream never changes, but not that `Generator.permutation` keeps
    making the same use of it; so the order is that of raw 64-bit words, sorted. The sort is stable, so that even
    two equal words have one order.

    Args:
        n: how many rows.
        key: a word that names the stream, such as a seed: 0 <= key < 2**64.
        subkey: a second word, such as an epoch, of the same range.

    Raises:
        OverflowError: a word is out of range.
    """
    words = np.random.Philox(key=np.array([key, subkey], np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
