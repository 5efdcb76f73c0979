"""A stack of convolutions has the results and the gradients of separate layers."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_hpo.kernels.native import references_only
from mnist_hpo.kernels.normalise import Pool
from mnist_hpo.layers.convolution_stack import Moments, Plan, Stage, convolution_stack
from mnist_hpo.layers.pooling import max_pool

POOLS: list[tuple[Pool, ...]] = [("none", "max", "none", "mean"), ("max", "none"), ("mean",)]
EPSILON = 1e-5


def normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape, dtype=np.float32))


def make_stages(pools: tuple[Pool, ...], size: int = 3) -> list[Stage]:
    rng = np.random.default_rng(1)
    channels = [2, 5, 8, 3, 6][: len(pools) + 1]
    return [
        Stage(normal(rng, size, size, n_in, n_out), 1 + 0.3 * normal(rng, n_out), normal(rng, n_out))
        for n_in, n_out in itertools.pairwise(channels)
    ]


def make_moments(stages: list[Stage]) -> list[Moments]:
    rng = np.random.default_rng(2)
    return [Moments(normal(rng, len(s.bias)), 20 + abs(normal(rng, len(s.bias)))) for s in stages]


def by_layers(plan: Plan, x: Any, stages: Any, running: Any) -> tuple[Any, list[Moments]]:
    """Compute the stack by JAX's own functions and their derived gradients."""
    used = []
    for index, (kernel, scale, bias) in enumerate(stages):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean, variance = (y.mean((0, 1, 2)), y.var((0, 1, 2))) if running is None else running[index]
        used.append(Moments(mean, variance))
        factor, *others = (one[None, None, None] for one in (scale / jnp.sqrt(variance + plan.epsilon), mean, bias))
        x = jax.nn.relu((y - others[0]) * factor + others[1])
        if plan.pools[index] == "max":
            x = max_pool(x)
        elif plan.pools[index] == "mean":
            x = x.mean((1, 2), keepdims=True)
    return x, used


@pytest.fixture(autouse=True)
def use_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")


@pytest.mark.parametrize("uses_running", [False, True])
@pytest.mark.parametrize("size", [3, 2])
@pytest.mark.parametrize("pools", POOLS, ids=str)
def test_features_moments_and_gradients_equal_those_of_separate_layers(
    pools: tuple[Pool, ...], size: int, uses_running: bool
) -> None:
    """There are 37 examples, so that the second block is not full, and images of odd height."""
    rng = np.random.default_rng(3)
    images, stages, plan = normal(rng, 37, 7, 6, 2), make_stages(pools, size), Plan(pools, "fp32", EPSILON)
    running = make_moments(stages) if uses_running else None
    shape = jax.eval_shape(lambda: by_layers(plan, images, stages, running)[0]).shape
    slopes = normal(rng, *shape)

    def loss(function: Any, images: Any, stages: Any) -> Any:
        features, used = function(plan, images, stages, running)
        return (features * slopes).sum(), (features, used)

    find = jax.jit(jax.value_and_grad(loss, (1, 2), has_aux=True), static_argnums=0)
    (_, (features, used)), gradients = find(convolution_stack, images, stages)
    (_, (expected, moments)), exact = find(by_layers, images, stages)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(jax.tree.leaves(used), jax.tree.leaves(moments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * scale)


def test_in_bfloat16_only_the_factors_of_products_are_rounded() -> None:
    """The kernels agree with their references, which round in the same places."""
    pools, rng = POOLS[0], np.random.default_rng(3)
    images, stages, plan = normal(rng, 37, 7, 6, 2), make_stages(pools), Plan(pools, "bf16", EPSILON)

    def loss(images: Any, stages: Any) -> Any:
        return (convolution_stack(plan, images, stages, None)[0] ** 2).sum()

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(images, stages)
    with references_only():
        expected = jax.jit(jax.value_and_grad(lambda *a: loss(*a), (0, 1)))(images, stages)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        difference = float(jnp.linalg.norm((one - other).ravel()) / jnp.linalg.norm(other.ravel()))
        assert difference < 0.02


def test_under_vmap_each_training_has_its_own_results() -> None:
    pools, rng = POOLS[1], np.random.default_rng(3)
    images, stages, plan = normal(rng, 2, 17, 4, 4, 2), make_stages(pools), Plan(pools, "fp32", EPSILON)
    features = jax.jit(lambda x: convolution_stack(plan, x, stages, None)[0])
    both = jax.jit(jax.vmap(features))(images)
    for one, x in zip(both, images, strict=True):
        np.testing.assert_allclose(one, features(x), rtol=1e-4, atol=1e-5)


def test_the_images_gradient_is_not_computed_if_it_is_not_used() -> None:
    images, stages = normal(np.random.default_rng(3), 32, 6, 6, 2), make_stages(POOLS[0])

    def loss(x: jax.Array, stages: list[Stage]) -> jax.Array:
        return convolution_stack(Plan(POOLS[0], "fp32", EPSILON), x, stages, None)[0].sum()

    def count(arguments: tuple[int, ...]) -> int:
        program = jax.jit(jax.grad(loss, arguments)).lower(images, stages).compile().as_text()
        return program.count('custom_call_target="mnist_hpo.convolve_f32"')

    assert count((0, 1)) == 8
    assert count((1,)) == 7
