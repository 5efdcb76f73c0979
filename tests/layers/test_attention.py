"""Attention equals softmax(Q K^T / sqrt(D)) V, written plainly in NumPy, and so do its gradients."""

from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.layers.attention import attention

Array = NDArray[Any]
SHAPES = (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)


def problem() -> tuple[Array, ...]:
    """Return queries, keys, values, and a slope of the result."""
    random = np.random.default_rng(0)
    return tuple(random.standard_normal(shape, dtype=np.float32) for shape in (*SHAPES, SHAPES[0]))


def plainly(query: Array, key: Array, value: Array) -> Array:
    result = np.zeros(query.shape)
    for example, head, token in np.ndindex(query.shape[:3]):
        scores = np.array([key[example, head, other] @ query[example, head, token] for other in range(key.shape[2])])
        weights = np.exp(scores / np.sqrt(query.shape[3]))
        result[example, head, token] = weights / weights.sum() @ value[example, head]
    return result


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_the_result_equals_the_formula(precision: str, tolerance: float) -> None:
    *factors, _ = problem()
    found = attention(*factors, precision)  # type: ignore[call-arg]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plainly(*factors), rtol=tolerance, atol=tolerance)


def test_large_scores_do_not_overflow() -> None:
    query, key, value, _ = problem()
    found = attention(1000 * query, key, value, "fp32")
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_the_gradients_equal_finite_differences(precision: str, tolerance: float) -> None:
    *factors, slope = problem()
    _, pull_back = jax.vjp(lambda *factors: attention(*factors, precision), *factors)
    for which, found in enumerate(pull_back(slope)):
        assert found.dtype == np.float32
        expected = np.zeros(found.shape)
        for index in np.ndindex(found.shape):
            losses = []
            for change in (1e-5, -1e-5):
                moved = [factor.astype(np.float64) for factor in factors]
                moved[which][index] += change
                losses.append((plainly(*moved) * slope).sum())
            expected[index] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance / 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_example_attends_only_to_its_own_tokens(precision: str) -> None:
    query, key, value, _ = problem()
    both = attention(query, key, value, precision)
    alone = attention(query[1:], key[1:], value[1:], precision)
    np.testing.assert_allclose(both[1:], alone, rtol=1e-5, atol=1e-6)
