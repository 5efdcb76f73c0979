"""The convolutional networks and their batch statistics."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from program import program_of

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program

SMALL = {"channels": 4, "batch_size": 50, "precision": "fp32"}
EPSILON = 1e-5


def steps(program: Program, images: Any, labels: Any, order: Any, **dynamics: float) -> core.TrainState:
    values = core.Dynamics(*(np.float32(dynamics.get(name, 0)) for name in core.Dynamics._fields))
    rates = np.full(len(order), 0.01, np.float32)
    epoch = jax.jit(partial(core.train_epoch, program))
    return epoch(
        initial_state(program, 1), images, labels, order, core.PerStep(rates), values, np.array([1, 2], np.uint32)
    )[0]


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve by the definition, with zero padding."""
    half = kernel.shape[0] // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (half, half), (half, half), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


def pooled(x: np.ndarray, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    n, height, width, channels = x.shape
    return reduce(x.reshape(n, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_the_vgg_equals_its_formula(images: np.ndarray, labels: np.ndarray) -> None:
    """Uses the running moments after some training steps, when all of them have changed."""
    program = program_of("cnn", architecture="vgg", **SMALL)
    state = steps(program, images, labels, np.arange(200, dtype=np.int32).reshape(4, 50))
    weights, moments = jax.tree.map(np.asarray, (state.parameters, state.statistics))
    x = images.reshape(-1, 28, 28, 1) / 255
    for layer in range(4):
        x = convolved(x, weights["convolutions"][layer]["kernel"])
        norm, running = weights["norms"][layer], moments["norms"][layer]
        x = (x - running["mean"]) / np.sqrt(running["var"] + EPSILON) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
        x = pooled(x, np.max) if layer == 1 else x
    logits = x.mean(axis=(1, 2)) @ weights["logits"]["kernel"] + weights["logits"]["bias"]
    found = jax.jit(partial(core.predict, program))(state.parameters, state.statistics, images)
    np.testing.assert_allclose(found, log_softmax(logits), rtol=1e-3, atol=1e-4)


def test_the_lenet_equals_its_formula(images: np.ndarray) -> None:
    program = program_of("cnn", architecture="lenet", kernel_size=5, activation="tanh", precision="fp32", channels=6)
    state = initial_state(program, seed=1)
    weights = state.parameters
    x = images[:50].reshape(-1, 28, 28, 1) / 255
    for layer in range(2):
        convolution = weights["convolutions"][layer]
        x = pooled(np.tanh(convolved(x, convolution["kernel"]) + convolution["bias"]), np.mean)
    x = x.reshape(50, -1)
    for layer in range(2):
        x = np.tanh(x @ weights["hidden"][layer]["kernel"] + weights["hidden"][layer]["bias"])
    logits = x @ weights["logits"]["kernel"] + weights["logits"]["bias"]
    found = jax.jit(partial(core.predict, program))(weights, state.statistics, images[:50])
    np.testing.assert_allclose(found, log_softmax(logits), rtol=1e-3, atol=1e-4)


def test_running_moments_are_updated_from_the_batches(images: np.ndarray, labels: np.ndarray) -> None:
    """Checks the first normalisation after a single step, since training also changes the kernel before it."""
    program = program_of("cnn", **SMALL)
    first = initial_state(program, 1)
    state = steps(program, images, labels, np.arange(50, dtype=np.int32).reshape(1, 50))
    x = convolved(images[:50].reshape(-1, 28, 28, 1) / 255, first.parameters["convolutions"][0]["kernel"])
    running = state.statistics["norms"][0]
    np.testing.assert_allclose(running["mean"], 0.1 * x.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * x.var(axis=(0, 1, 2)), rtol=1e-3)


def test_a_normalisation_is_initialised_as_the_identity() -> None:
    """A scale of zero, to which all rank-1 tensors were once initialised, would block every signal."""
    state = initial_state(program_of("cnn", **SMALL), seed=5)
    for norm, moments in zip(state.parameters["norms"].values(), state.statistics["norms"].values(), strict=True):
        assert (norm["scale"] == 1).all()
        assert (norm["bias"] == 0).all()
        assert (moments["mean"] == 0).all()
        assert (moments["var"] == 1).all()
    for layer, fan_in in ((1, 9 * 4), (3, 9 * 8)):
        kernel = state.parameters["convolutions"][layer]["kernel"]
        assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.2)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_penalties_apply_only_to_the_weights_of_products(
    images: np.ndarray, labels: np.ndarray, optimizer: str
) -> None:
    """In one step from the same state, biases and scales change equally with and without a penalty."""
    program = program_of("cnn", optimizer=optimizer, **SMALL)
    order = np.arange(50, dtype=np.int32).reshape(1, 50)
    free, bound = (steps(program, images, labels, order, l2=l2, l1=l2).parameters for l2 in (0.0, 0.3))
    for path, weight in jax.tree_util.tree_flatten_with_path(free)[0]:
        other = bound
        for key in path:
            other = other[key.key]
        assert np.array_equal(weight, other) == (path[-1].key != "kernel"), path


def test_the_precision_rounds_kernels_but_not_scales(images: np.ndarray, labels: np.ndarray) -> None:
    results = []
    for precision in ("fp32", "bf16"):
        program = program_of("cnn", **SMALL | {"precision": precision})
        state = initial_state(program, 1)
        results.append(np.asarray(jax.jit(partial(core.predict, program))(state.parameters, state.statistics, images)))
    assert not np.array_equal(*results)
    np.testing.assert_allclose(*results, atol=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_vgg_learns_the_same_with_and_without_kernels(
    images: np.ndarray, labels: np.ndarray, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of("cnn", **SMALL | {"precision": precision})
    order = np.arange(100, dtype=np.int32).reshape(2, 50)
    results = []
    for setting in ("on", "off"):
        monkeypatch.setenv("MNIST_HPO_KERNELS", setting)
        state = steps(program, images, labels, order)
        results.append(jax.tree.map(np.asarray, (state.parameters["norms"], state.statistics)))
    tolerance = 1e-3 if precision == "fp32" else 3e-2
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), *results)


def test_noise_and_other_activations_are_computed_layer_by_layer(images: np.ndarray, labels: np.ndarray) -> None:
    order = np.arange(50, dtype=np.int32).reshape(1, 50)
    plain = steps(program_of("cnn", **SMALL), images, labels, order).parameters
    for options in ({"activation": "gelu"}, {"noise": 0.5}):
        found = steps(program_of("cnn", **SMALL | options), images, labels, order, noise=0.5).parameters
        assert np.isfinite(found["logits"]["kernel"]).all()
        assert not np.array_equal(found["logits"]["kernel"], plain["logits"]["kernel"])
