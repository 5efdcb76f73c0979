"""`gather_pixels` equals NumPy's indexing."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mnist_hpo.kernels.gather_pixels import SCALE, gather_pixels


@pytest.mark.parametrize(("n_rows", "n_features"), [(1, 1), (5, 784), (32, 17), (128, 784)])
def test_rows_are_returned_in_the_requested_order(n_rows: int, n_features: int) -> None:
    rng = np.random.default_rng(n_rows)
    images = rng.integers(0, 256, (300, n_features), dtype=np.uint8)
    rows = rng.integers(0, 300, n_rows, dtype=np.int32)
    found = jax.jit(gather_pixels)(images, rows)
    assert found.dtype == np.float32
    assert np.array_equal(found, images[rows].astype(np.float32) * SCALE)


@pytest.mark.parametrize(("n_rows", "n_features"), [(1, 1), (5, 784), (32, 17), (128, 784)])
def test_rows_can_be_rounded_to_bfloat16(n_rows: int, n_features: int) -> None:
    rng = np.random.default_rng(n_rows)
    images = rng.integers(0, 256, (300, n_features), dtype=np.uint8)
    rows = rng.integers(0, 300, n_rows, dtype=np.int32)
    found = jax.jit(gather_pixels, static_argnums=2)(images, rows, jnp.bfloat16)
    assert found.dtype == ml_dtypes.bfloat16
    assert np.array_equal(found, (images[rows].astype(np.float32) * SCALE).astype(ml_dtypes.bfloat16))


def test_training_and_prediction_scale_pixels_equally() -> None:
    """The core multiplies pixels by `SCALE` in predictions."""
    every_byte = np.arange(256, dtype=np.uint8)[None]
    found = np.asarray(jax.jit(gather_pixels)(every_byte, np.zeros(1, np.int32)))
    assert np.array_equal(found[0], np.arange(256, dtype=np.float32) * SCALE)
    assert found.min() == 0
    assert found.max() == 1
