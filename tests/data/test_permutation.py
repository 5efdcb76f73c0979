import hashlib

import numpy as np
import pytest

from mnist_hpo.data.permutation import permutation


def test_the_result_is_a_permutation():
    order = permutation(60_000, 3, 5)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(60_000))


def test_the_permutation_of_a_key_is_fixed():
    # The results of all recorded studies depend on these values.
    assert permutation(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    digest = hashlib.sha256(permutation(60_000, 1, 2).astype("<i8").tobytes()).hexdigest()
    assert digest == "6100c641e706513ee62d1c9766c0675b13b9edbde099d05a2808eb2d8686340a"


def test_different_keys_give_different_permutations():
    keys = [(0,), (1,), (0, 1), (1, 1), (2**64 - 1,), (0, 2**64 - 1)]
    orders = {tuple(permutation(100, *key).tolist()) for key in keys}
    assert len(orders) == len(keys)
    assert np.array_equal(permutation(100, 7), permutation(100, 7, 0))


@pytest.mark.parametrize("key", [-1, 2**64])
def test_a_key_outside_64_bits_is_rejected(key: int):
    with pytest.raises(OverflowError):
        permutation(10, key)
