"""A seeded permutation that is the same in every version of NumPy and on every platform."""

import numpy as np
from numpy.typing import NDArray


def permutation(n: int, key: int, subkey: int = 0) -> NDArray[np.int64]:
    """Return the permutation of 0..n-1 that a key determines, as int64 [n].

    NumPy guarantees the raw stream of a bit generator, but not the result of `Generator.permutation`. This function
    therefore sorts n raw 64-bit words. The sort is stable, so the result is determined even if two words are equal.

    Args:
        n: the number of rows.
        key: the first word of the Philox key, such as a seed: 0 <= key < 2**64.
        subkey: the second word of the Philox key, such as an epoch: 0 <= subkey < 2**64.

    Raises:
        OverflowError: `key` or `subkey` is out of range.
    """
    words = np.random.Philox(key=np.array([key, subkey], np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
