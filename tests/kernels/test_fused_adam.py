"""The fused Adam update equals the formula in float64, for sizes that do and do not fill a SIMD vector."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.kernels import fused_adam

RATE, L1, L2 = 0.01, 3e-3, 2e-2
ROUNDING = 3e-5 * RATE
"""An absolute tolerance: in float32, 1 - 0.999 has few significant digits left."""


def tensors(seed: int, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def formula(
    weights: list[Any], slopes: list[list[Any]], *, l1: float, l2: float, decoupled: bool
) -> tuple[list[Any], list[Any], list[Any]]:
    """Compute Kingma & Ba's algorithm 1, with the decoupled penalty of Loshchilov & Hutter as an option."""
    weights = [weight.astype(np.float64) for weight in weights]
    means, squares = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
    for step, gradients in enumerate(slopes, start=1):
        for i, gradient in enumerate(gradients):
            penalty = l1 * np.sign(weights[i]) + 2 * l2 * weights[i] if weights[i].ndim > 1 else 0 * weights[i]
            gradient = gradient + (0 if decoupled else penalty)
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            change = means[i] / (1 - 0.9**step) / (np.sqrt(squares[i] / (1 - 0.999**step)) + 1e-8)
            weights[i] = weights[i] - RATE * (change + (penalty if decoupled else 0))
    return weights, means, squares


def fused(weights: list[Any], slopes: list[list[Any]], **options: Any) -> tuple[list[Any], fused_adam.AdamState]:
    nothing = [None] * len(weights)
    step = jax.jit(
        lambda weights, state, gradients: fused_adam.update(
            weights, state, gradients, nothing, learning_rate=jnp.float32(RATE), **options
        )
    )
    state = fused_adam.init(weights)
    for gradients in slopes:
        weights, state, _ = step(weights, state, gradients)
    return weights, state


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 64, 1003])
def test_updates_equal_the_formula(size: int, decoupled: bool) -> None:
    shapes = ((size,), (size, 5), (1, size))
    weights = tensors(0, *shapes)
    weights[1][0, 0] = 0.0
    slopes = [tensors(seed, *shapes) for seed in range(1, 5)]
    found, state = fused(weights, slopes, l1=L1, l2=L2, decoupled=decoupled)
    expected, means, squares = formula(weights, slopes, l1=L1, l2=L2, decoupled=decoupled)
    for ours, theirs in zip([*found, *state.mean, *state.square], [*expected, *means, *squares], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=ROUNDING)
    assert state.n_updates == 4


@pytest.mark.parametrize("scale", [0.0, 1e-18, 1e-12, 1e-8, 1e-3, 1e6, 1e15])
def test_updates_are_correct_for_gradients_of_any_magnitude(scale: float) -> None:
    """The reciprocal is correct over the whole range of its divisor."""
    weights = tensors(0, (40, 2))
    slopes = [[np.float32(scale) * gradient for gradient in tensors(1, (40, 2))]]
    found, _ = fused(weights, slopes, l1=0.0, l2=0.0, decoupled=False)
    expected, _, _ = formula(weights, slopes, l1=0.0, l2=0.0, decoupled=False)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_non_finite_gradient_makes_its_own_weight_non_finite(poison: float) -> None:
    """Otherwise a diverged training would go unnoticed."""
    weights, (gradient,) = tensors(0, (40, 2)), tensors(1, (40, 2))
    gradient[7, 1] = poison
    found, _ = fused(weights, [[gradient]], l1=0.0, l2=0.0, decoupled=False)
    assert not np.isfinite(found[0][7, 1])
    assert np.isfinite(np.delete(np.ravel(found[0]), 15)).all()


def test_tensors_are_updated_in_place() -> None:
    """The compiled update allocates less memory than a copy of its smallest matrix would need."""
    shapes = ((256, 256), (256,))
    weights, slopes = tensors(0, *shapes), tensors(1, *shapes)
    rates = {"learning_rate": jnp.float32(RATE), "l1": 0.0, "l2": 0.0, "decoupled": False}

    def steps(weights: Any, state: Any, rounded: Any) -> Any:
        def step(_: int, carried: Any) -> Any:
            weights, state, rounded = carried
            return fused_adam.update(weights, state, slopes, rounded, **rates)

        return jax.lax.fori_loop(0, 3, step, (weights, state, rounded))

    rounded = [weights[0].astype(ml_dtypes.bfloat16), None]
    compiled = jax.jit(steps, donate_argnums=(0, 1, 2)).lower(weights, fused_adam.init(weights), rounded).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes > 3 * weights[0].nbytes, "weights and moments are donated"
    assert memory.temp_size_in_bytes < 256 * 256 * 2


@pytest.mark.parametrize("size", [1, 17, 2047, 2048, 2049, 5000])
def test_updated_kernels_are_also_returned_rounded(size: int) -> None:
    shapes = ((size,), (size, 3), (1, size))
    weights, slopes = tensors(0, *shapes), tensors(1, *shapes)
    empty = [None, *(np.zeros(shape, ml_dtypes.bfloat16) for shape in shapes[1:])]
    rates = {"learning_rate": jnp.float32(RATE), "l1": 0.0, "l2": 0.0, "decoupled": False}
    update = jax.jit(lambda *arrays: fused_adam.update(*arrays, **rates))
    found, _, rounded = update(weights, fused_adam.init(weights), slopes, empty)
    assert rounded[0] is None
    for weight, copy in zip(found[1:], rounded[1:], strict=True):
        assert np.array_equal(copy, np.asarray(weight).astype(ml_dtypes.bfloat16))


def test_the_bias_corrections_are_correct_after_many_updates() -> None:
    """With converged moments after 10,000 updates, a step is as long as the learning rate."""
    weights = tensors(0, (4, 4))
    steady = fused_adam.AdamState(
        [np.full((4, 4), 0.5, np.float32)], [np.full((4, 4), 0.25, np.float32)], np.float32(1e4)
    )
    slopes = [np.full((4, 4), 0.5, np.float32)]
    found, state, _ = jax.jit(
        lambda *arrays: fused_adam.update(
            *arrays, [None], learning_rate=jnp.float32(RATE), l1=0.0, l2=0.0, decoupled=False
        )
    )(weights, steady, slopes)
    np.testing.assert_allclose(weights[0] - found[0], RATE, rtol=1e-4)
    assert state.n_updates == 10_001
