"""The mean cross-entropy and its gradient equal the formula in float64."""

from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.kernels.native import uses_kernels
from mnist_hpo.kernels.softmax_loss import softmax_loss

loss_and_gradient = jax.jit(jax.value_and_grad(softmax_loss))


def draw(n_examples: int, n_classes: int, scale: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(n_examples + n_classes)
    logits = np.float32(scale) * rng.standard_normal((n_examples, n_classes), dtype=np.float32)
    labels = rng.integers(0, n_classes, 500, dtype=np.uint8)
    return logits, labels, rng.integers(0, 500, n_examples, dtype=np.int32)


def formula(logits: Any, labels: Any, rows: Any, smoothing: float) -> tuple[float, NDArray[np.float64]]:
    logits = logits.astype(np.float64)
    n_examples, n_classes = logits.shape
    targets = (1 - smoothing) * np.eye(n_classes)[labels[rows]] + smoothing / n_classes
    below = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return float(-(targets * log_probabilities).sum() / n_examples), (np.exp(log_probabilities) - targets) / n_examples


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 30.0])
@pytest.mark.parametrize(("n_examples", "n_classes"), [(1, 2), (7, 10), (64, 10), (33, 16), (5, 47)])
def test_loss_and_gradient_equal_the_formula(n_examples: int, n_classes: int, scale: float, smoothing: float) -> None:
    batch = draw(n_examples, n_classes, scale)
    loss, gradient = loss_and_gradient(*batch, np.float32(smoothing))
    expected_loss, expected_gradient = formula(*batch, smoothing)
    np.testing.assert_allclose(loss, expected_loss, rtol=2e-6 if uses_kernels() else 4e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-5, atol=2e-7)


def test_loss_and_gradient_are_finite_for_logits_of_any_magnitude() -> None:
    logits = np.array([[1e30, -1e30, 0.0], [-3e4, -3e4, -3e4], [88.0, 0.0, -88.0]], np.float32)
    labels, rows = np.array([0, 1, 2], np.uint8), np.arange(3, dtype=np.int32)
    loss, gradient = loss_and_gradient(logits, labels, rows, np.float32(0))
    np.testing.assert_allclose(loss, (0 + np.log(3) + 176) / 3, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_non_finite_logit_makes_the_loss_non_finite(poison: float) -> None:
    """Otherwise a diverged training would go unnoticed."""
    logits, labels, rows = draw(8, 10, 1.0)
    logits[3, 4] = poison
    loss, gradient = loss_and_gradient(logits, labels, rows, np.float32(0))
    assert not np.isfinite(loss)
    assert not np.isfinite(gradient[3]).all()
    assert np.isfinite(np.delete(gradient, 3, axis=0)).all()


def test_the_gradient_follows_the_chain_rule() -> None:
    logits, labels, rows = draw(8, 10, 1.0)
    once, thrice = (
        jax.grad(lambda logits, factor=factor: factor * softmax_loss(logits, labels, rows, np.float32(0)))(logits)
        for factor in (1.0, 3.0)
    )
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)
