"""The recurrent networks equal their formulas, computed time by time with NumPy."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.learners.flax.counting import count
from mnist_hpo.models.rnn import MODEL

N_IMAGES, HEIGHT, WIDTH, N_UNITS, N_CLASSES = 3, 5, 4, 6, 3
DEFAULTS = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}


def network(**hyperparameters: Any) -> nnx.Module:
    values = DEFAULTS | {"width": N_UNITS} | hyperparameters
    return MODEL.module()((HEIGHT, WIDTH, 1), N_CLASSES, values, "fp32", rngs=nnx.Rngs(0))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected_states(layer: Any, x: np.ndarray, cell: str, *, reverse: bool) -> np.ndarray:
    kernel, bias = np.asarray(layer.inputs.kernel[...], np.float64), np.asarray(layer.inputs.bias[...], np.float64)
    recurrent = np.asarray(layer.recurrent.kernel[...], np.float64)
    states = np.zeros((*x.shape[:2], N_UNITS))
    state, memory = np.zeros((len(x), N_UNITS)), np.zeros((len(x), N_UNITS))
    for time in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        own, past = np.split(x[:, time] @ kernel + bias, 3 if cell == "gru" else 4, axis=1), state @ recurrent
        if cell == "gru":
            r, z, n = np.split(past, 3, axis=1)
            update = sigmoid(own[1] + z)
            state = (1 - update) * np.tanh(own[2] + sigmoid(own[0] + r) * n) + update * state
        else:
            i, f, g, o = (a + b for a, b in zip(own, np.split(past, 4, axis=1), strict=True))
            memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
            state = sigmoid(o) * np.tanh(memory)
        states[:, time] = state
    return states


@pytest.mark.parametrize(
    ("cell", "bidirectional", "read_out"), list(product(("gru", "lstm"), ("no", "yes"), ("last", "mean")))
)
def test_logits_are_those_of_the_formula(cell: str, bidirectional: str, read_out: str) -> None:
    net: Any = network(cell=cell, bidirectional=bidirectional, read_out=read_out, depth=2)
    images = np.random.default_rng(0).normal(size=(N_IMAGES, HEIGHT, WIDTH, 1)).astype(np.float32)
    x = images[..., 0].astype(np.float64)
    directions = (False, True) if bidirectional == "yes" else (False,)
    for layer in net.layers:
        parts = [expected_states(one, x, cell, reverse=r) for one, r in zip(layer, directions, strict=True)]
        x = np.concatenate(parts, axis=2)
    ends = np.concatenate([part[:, 0 if r else -1] for part, r in zip(parts, directions, strict=True)], axis=1)
    read = ends if read_out == "last" else x.mean(axis=1)
    expected = read @ np.asarray(net.logits.kernel[...], np.float64) + np.asarray(net.logits.bias[...])
    np.testing.assert_allclose(net(jnp.asarray(images), no_dropout), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_are_those_of_finite_differences(cell: str) -> None:
    graph, weights = nnx.split(network(cell=cell, bidirectional="yes"))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, HEIGHT, WIDTH, 1)), jnp.float32)

    def loss(weights: Any) -> jax.Array:
        return (nnx.merge(graph, weights)(images, no_dropout) ** 2).sum()

    gradients = jax.grad(loss)(weights)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), weights)
    step = 1e-3
    ahead, behind = (loss(jax.tree.map(lambda w, d, s=s: w + s * d, weights, direction)) for s in (step, -step))
    along = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=5e-3)


def test_the_products_of_all_times_are_counted() -> None:
    architecture = tuple(sorted((DEFAULTS | {"width": N_UNITS, "cell": "lstm"}).items()))
    found = count("rnn", (HEIGHT, WIDTH, 1), N_CLASSES, architecture)
    inputs, recurrent = HEIGHT * WIDTH * 4 * N_UNITS, HEIGHT * N_UNITS * 4 * N_UNITS
    assert found.forward_flops == 2 * (inputs + recurrent + N_UNITS * N_CLASSES)
    assert found.n_parameters == (WIDTH + N_UNITS + 1) * 4 * N_UNITS + (N_UNITS + 1) * N_CLASSES
