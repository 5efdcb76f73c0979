"""The transposition equals NumPy's, for sizes that do and do not fill the kernel's blocks."""

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

from mnist_hpo.kernels.transpose import transpose


@pytest.mark.parametrize(("bits", "number"), [(np.uint16, ml_dtypes.bfloat16), (np.uint32, np.float32)])
@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 32, 100])
@pytest.mark.parametrize("n_columns", [1, 5, 8, 16, 17, 784])
def test_the_transposition_equals_numpys(n_rows: int, n_columns: int, bits: Any, number: Any) -> None:
    numbers = np.arange(n_rows * n_columns, dtype=np.uint32).astype(bits).reshape(n_rows, n_columns)
    found = np.asarray(jax.jit(transpose)(numbers.view(number)))
    assert found.shape == (n_columns, n_rows)
    assert np.array_equal(found.view(bits), numbers.T)
