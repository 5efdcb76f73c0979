"""Pooling by reshaping equals Flax's pooling."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx

from mnist_hpo.layers.pooling import average_pool, max_pool


@pytest.mark.parametrize(("ours", "theirs"), [(max_pool, nnx.max_pool), (average_pool, nnx.avg_pool)])
def test_pooling_equals_flaxs(ours: Callable[..., jax.Array], theirs: Callable[..., jax.Array]) -> None:
    """This includes odd sizes, for which the last row and column are ignored."""
    x = np.random.default_rng(0).standard_normal((3, 7, 6, 4), dtype=np.float32)
    expected, pull_back_exactly = jax.vjp(jax.jit(lambda x: theirs(x, (2, 2), strides=(2, 2))), x)
    found, pull_back = jax.vjp(jax.jit(ours), x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(*pull_back(found), *pull_back_exactly(found), rtol=1e-5, atol=1e-6)
