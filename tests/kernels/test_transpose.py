"""Rows and columns exchanged, at sizes that do and do not fill the blocks."""

import jax
import ml_dtypes
import numpy as np
import pytest

from mnist_hpo.kernels.transpose import transpose


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 32, 100])
@pytest.mark.parametrize("n_columns", [1, 5, 8, 16, 17, 784])
def test_every_number_comes_to_its_place(n_rows: int, n_columns: int) -> None:
    bits = np.arange(n_rows * n_columns, dtype=np.uint32).astype(np.uint16).reshape(n_rows, n_columns)
    found = np.asarray(jax.jit(transpose)(bits.view(ml_dtypes.bfloat16)))
    assert found.shape == (n_columns, n_rows)
    assert np.array_equal(found.view(np.uint16), bits.T)
