"""The transformer equals its formula, computed with NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf, softmax

from mnist_hpo.layers.attention import attention
from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.layers.patches import to_patches
from mnist_hpo.learners.flax.counting import count
from mnist_hpo.models.transformer import MODEL

N_CLASSES = 3
SHAPE = (6, 7, 2)
VALUES = {"patch_size": 3, "width": 8, "n_heads": 2, "depth": 2, "mlp_ratio": 2}


def network(**hyperparameters: Any) -> nnx.Module:
    return MODEL.module()(SHAPE, N_CLASSES, VALUES | hyperparameters, "fp32", rngs=nnx.Rngs(0))


def test_patches_are_cut_row_by_row_and_padded_with_zeros() -> None:
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (0, 0), (0, 2), (0, 0)))
    expected = np.stack([padded[:, i : i + 3, j : j + 3].reshape(2, -1) for i in (0, 3) for j in (0, 3, 6)], axis=1)
    np.testing.assert_array_equal(to_patches(jnp.asarray(images), 3), expected)


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_attention_is_computed_head_by_head(n_heads: int) -> None:
    x = np.random.default_rng(1).normal(size=(2, 5, 24)).astype(np.float32)
    queries, keys, values = np.split(x.astype(np.float64), 3, axis=2)
    size = 8 // n_heads
    heads = []
    for head in range(n_heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax(queries[..., part] @ keys[..., part].swapaxes(1, 2) / np.sqrt(size), axis=2)
        heads.append(weights @ values[..., part])
    np.testing.assert_allclose(attention(jnp.asarray(x), n_heads), np.concatenate(heads, axis=2), rtol=1e-4, atol=1e-5)


def dense(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)


def test_logits_are_those_of_the_formula() -> None:
    net: Any = network()
    positions = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    net.positions[...] = jnp.asarray(positions)
    images = np.random.default_rng(3).normal(size=(2, *SHAPE)).astype(np.float32)
    x = dense(net.embedding, np.asarray(to_patches(jnp.asarray(images), 3), np.float64)) + positions
    for block in net.blocks:
        queries_keys_values = dense(block.queries_keys_values, normalised(x))
        x = x + dense(block.mixed, np.asarray(attention(jnp.asarray(queries_keys_values, jnp.float32), 2)))
        hidden = dense(block.hidden, normalised(x))
        # JAX approximates the GELU by a tanh.
        x = x + dense(block.output, hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))))
    expected = dense(net.logits, normalised(x).mean(axis=1))
    np.testing.assert_allclose(net(jnp.asarray(images), no_dropout), expected, rtol=5e-3, atol=5e-3)


def test_gradients_are_those_of_finite_differences() -> None:
    graph, weights = nnx.split(network())
    images = jnp.asarray(np.random.default_rng(4).normal(size=(2, *SHAPE)), jnp.float32)

    def loss(weights: Any) -> jax.Array:
        return (nnx.merge(graph, weights)(images, no_dropout) ** 2).sum()

    gradients = jax.grad(loss)(weights)
    rng = np.random.default_rng(5)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), weights)
    step = 1e-3
    ahead, behind = (loss(jax.tree.map(lambda w, d, s=s: w + s * d, weights, direction)) for s in (step, -step))
    along = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=1e-2)


def test_the_width_is_rounded_up_to_a_multiple_of_the_heads() -> None:
    assert network(width=7, n_heads=4)(jnp.ones((1, *SHAPE)), no_dropout).shape == (1, N_CLASSES)


def test_parameters_and_products_are_counted() -> None:
    found = count("transformer", SHAPE, N_CLASSES, tuple(sorted(VALUES.items())))
    n_patches, width, patch = 6, 8, 18
    block = n_patches * (4 * width**2 + 4 * width**2) + 2 * n_patches**2 * width
    assert found.forward_flops == 2 * (n_patches * patch * width + 2 * block + width * N_CLASSES)
    of_block = 4 * width + (3 * width**2 + 3 * width) + (width**2 + width) + (4 * width**2 + 3 * width)
    ends = patch * width + width + n_patches * width + 2 * width + width * N_CLASSES + N_CLASSES
    assert found.n_parameters == 2 * of_block + ends
