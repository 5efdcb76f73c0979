"""Rounding to bfloat16 equals that of ml_dtypes."""

import jax
import ml_dtypes
import numpy as np

from mnist_hpo.kernels.round_to_bf16 import round_to_bf16


def test_all_bfloat16_neighbours_are_rounded_to_nearest_even() -> None:
    upper = np.arange(2**16, dtype=np.uint32) << 16
    bits = np.concatenate([upper | lower for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    numbers = bits.view(np.float32)
    numbers = numbers[~np.isnan(numbers)]
    found = np.asarray(jax.jit(round_to_bf16)(numbers))
    assert np.array_equal(found.view(np.uint16), numbers.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_nan_stays_nan() -> None:
    assert np.isnan(np.asarray(jax.jit(round_to_bf16)(np.full(5, np.nan, np.float32))).astype(np.float32)).all()


def test_the_shape_is_kept() -> None:
    for shape in ((), (1,), (3, 5), (2, 3, 17)):
        assert jax.jit(round_to_bf16)(np.ones(shape, np.float32)).shape == shape
