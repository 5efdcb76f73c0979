"""A batch's images against NumPy's own indexing."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mnist_hpo.kernels.gather_pixels import SCALE, gather_pixels


@pytest.mark.parametrize(("n_rows", "n_features"), [(1, 1), (5, 784), (32, 17), (128, 784)])
def test_the_rows_come_in_the_order_asked_for(n_rows: int, n_features: int) -> None:
    rng = np.random.default_rng(n_rows)
    images = rng.integers(0, 256, (300, n_features), dtype=np.uint8)
    rows = rng.integers(0, 300, n_rows, dtype=np.int32)
    found = jax.jit(gather_pixels)(images, rows)
    assert found.dtype == np.float32
    assert np.array_equal(found, images[rows].astype(np.float32) * SCALE)


@pytest.mark.parametrize(("n_rows", "n_features"), [(1, 1), (5, 784), (32, 17), (128, 784)])
def test_they_can_be_rounded_on_the_way(n_rows: int, n_features: int) -> None:
    rng = np.random.default_rng(n_rows)
    images = rng.integers(0, 256, (300, n_features), dtype=np.uint8)
    rows = rng.integers(0, 300, n_rows, dtype=np.int32)
    found = jax.jit(gather_pixels, static_argnums=2)(images, rows, jnp.bfloat16)
    assert found.dtype == ml_dtypes.bfloat16
    assert np.array_equal(found, (images[rows].astype(np.float32) * SCALE).astype(ml_dtypes.bfloat16))


def test_training_and_prediction_see_the_same_pixels() -> None:
    """The core scales with `SCALE` where it predicts."""
    every_byte = np.arange(256, dtype=np.uint8)[None]
    found = np.asarray(jax.jit(gather_pixels)(every_byte, np.zeros(1, np.int32)))
    assert np.array_equal(found[0], np.arange(256, dtype=np.float32) * SCALE)
    assert found.min() == 0
    assert found.max() == 1
