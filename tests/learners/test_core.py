"""The compiled core agrees with optax's optimisers, NumPy's arithmetic and JAX's gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray
from program import program_of

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.spec.study import ParameterValue

N_STEPS, BATCH = 8, 50
RATE = 0.01
ZERO = np.float32(0)

Loss = Callable[[Any, NDArray[Any], NDArray[Any]], jax.Array]


def forward(parameters: Any, images: NDArray[Any]) -> jax.Array:
    """An independent implementation of the default MLP: ReLU, one hidden layer."""
    first = parameters["hidden"][0]
    hidden = jax.nn.relu(images / np.float32(255) @ first["kernel"] + first["bias"][None])
    return hidden @ parameters["logits"]["kernel"] + parameters["logits"]["bias"][None]


def cross_entropy(parameters: Any, images: NDArray[Any], labels: NDArray[Any], smoothing: float = 0.0) -> jax.Array:
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), smoothing)
    return optax.softmax_cross_entropy(forward(parameters, images), targets).mean()


def kernels(parameters: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(parameters) if leaf.ndim == 2]


@pytest.fixture
def few(digits: tuple[Examples, Examples]) -> tuple[NDArray[Any], NDArray[Any]]:
    train, _ = digits
    return train.images[:200].reshape(200, 784), np.asarray(train.labels[:200])


def order() -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(0, 200, (N_STEPS, BATCH), dtype=np.int32)


def core_steps(few: tuple[Any, Any], dynamics: core.Dynamics, **parameters: ParameterValue) -> tuple[Any, Any]:
    """Return the weights after a few steps of the core, and the loss of each step."""
    program = program_of(**{"depth": 1, "width": 16, "batch_size": BATCH, "precision": "fp32"} | parameters)
    state = initial_state(program, seed=1)
    epoch = jax.jit(partial(core.train_epoch, program))
    rates = np.full(N_STEPS, RATE, np.float32)
    state, losses = epoch(state, *few, order(), core.PerStep(rates), dynamics, np.array([1, 2], np.uint32))
    return state.parameters, losses


def optax_steps(few: tuple[Any, Any], optimizer: optax.GradientTransformation, loss: Loss) -> tuple[Any, Any]:
    """Return the same, computed by optax's optimiser and JAX's gradient of the whole loss."""
    program = program_of(**{"depth": 1, "width": 16, "batch_size": BATCH, "precision": "fp32"})
    parameters = initial_state(program, seed=1).parameters
    images, labels = few
    state, losses = optimizer.init(parameters), []
    step = jax.jit(jax.value_and_grad(loss))
    for rows in order():
        value, gradients = step(parameters, images[rows], labels[rows])
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        losses.append(value)
    return parameters, np.array(losses)


def assert_same_steps(ours: tuple[Any, Any], theirs: tuple[Any, Any], *, loss_too: bool = True) -> None:
    found, expected = (np.concatenate([np.ravel(w) for w in jax.tree.leaves(side[0])]) for side in (ours, theirs))
    # One in a thousand may differ: where a gradient is nearly zero, Adam divides rounding errors by rounding errors.
    assert np.mean(~np.isclose(found, expected, rtol=2e-4, atol=RATE / 100)) < 1e-3
    np.testing.assert_allclose(found, expected, atol=RATE / 2)
    if loss_too:
        np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-4)


def is_kernel(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim == 2, parameters)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", optax.adam(RATE)),
        ("adamw", optax.adamw(RATE, weight_decay=0.0)),
        ("sgd", optax.sgd(RATE, momentum=0.8)),
        ("sgd_nesterov", optax.sgd(RATE, momentum=0.8, nesterov=True)),
        ("rmsprop", optax.rmsprop(RATE, decay=0.9, momentum=0.8)),
    ],
)
def test_each_optimizer_agrees_with_optax(few: Any, name: str, theirs: optax.GradientTransformation) -> None:
    ours = core_steps(few, core.Dynamics(ZERO, ZERO, ZERO, ZERO, np.float32(0.8)), optimizer=name)
    assert_same_steps(ours, optax_steps(few, theirs, cross_entropy))


def test_sgd_without_momentum_is_gradient_descent(few: Any) -> None:
    ours = core_steps(few, core.Dynamics(ZERO, ZERO, ZERO, ZERO, ZERO), optimizer="sgd")
    assert_same_steps(ours, optax_steps(few, optax.sgd(RATE), cross_entropy))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_l1_and_l2_are_gradients_of_the_penalties_over_the_kernels(few: Any, optimizer: str) -> None:
    l1, l2 = 0.003, 0.02

    def loss(parameters: Any, images: NDArray[Any], labels: NDArray[Any]) -> jax.Array:
        penalty = sum(l1 * jnp.sum(jnp.abs(w)) + l2 * jnp.sum(w**2) for w in kernels(parameters))
        return cross_entropy(parameters, images, labels) + penalty

    dynamics = core.Dynamics(ZERO, np.float32(l1), np.float32(l2), ZERO, np.float32(0.8))
    ours = core_steps(few, dynamics, optimizer=optimizer)
    theirs = {"adam": optax.adam(RATE), "sgd": optax.sgd(RATE, momentum=0.8)}[optimizer]
    # The reported loss is the cross-entropy alone.
    assert_same_steps(ours, optax_steps(few, theirs, loss), loss_too=False)


def test_adamw_decays_the_kernels_independently_of_the_moments(few: Any) -> None:
    """optax's weight decay w is the gradient of w/2 · Σ weight²; ours is the gradient of l2 · Σ weight²."""
    ours = core_steps(few, core.Dynamics(ZERO, ZERO, np.float32(0.05), ZERO, ZERO), optimizer="adamw")
    theirs = optax.adamw(RATE, weight_decay=0.1, mask=is_kernel)
    assert_same_steps(ours, optax_steps(few, theirs, cross_entropy))


def test_label_smoothing_agrees_with_optax(few: Any) -> None:
    ours = core_steps(few, core.Dynamics(ZERO, ZERO, ZERO, np.float32(0.1), ZERO))
    assert_same_steps(ours, optax_steps(few, optax.adam(RATE), partial(cross_entropy, smoothing=0.1)))


def test_each_step_uses_its_own_learning_rate(few: Any) -> None:
    program = program_of(**{"depth": 1, "width": 16, "batch_size": BATCH, "precision": "fp32"})
    state = initial_state(program, seed=1)
    rates = np.array([0.01] * 4 + [0.0] * 4, np.float32)
    dynamics = core.Dynamics(ZERO, ZERO, ZERO, ZERO, ZERO)
    run = jax.jit(partial(core.train_epoch, program))
    whole, _ = run(state, *few, order(), core.PerStep(rates), dynamics, np.array([1, 2], np.uint32))
    half, _ = run(state, *few, order()[:4], core.PerStep(rates[:4]), dynamics, np.array([1, 2], np.uint32))
    jax.tree.map(np.testing.assert_array_equal, whole.parameters, half.parameters)
    assert int(whole.step) == 8


def test_dropout_depends_on_the_seed(few: Any) -> None:
    dynamics = core.Dynamics(np.float32(0.3), ZERO, ZERO, ZERO, ZERO)
    program = program_of(**{"depth": 1, "width": 16, "batch_size": BATCH, "dropout": 0.3})
    state = initial_state(program, seed=1)
    run = jax.jit(partial(core.train_epoch, program))
    rates = np.full(N_STEPS, RATE, np.float32)
    seeds = [np.array(words, np.uint32) for words in ([1, 2], [1, 2], [1, 3], [2, 2])]
    losses = [np.asarray(run(state, *few, order(), core.PerStep(rates), dynamics, seed)[1]) for seed in seeds]
    assert np.array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])
    assert not np.array_equal(losses[0], losses[3])
    plain = optax_steps(few, optax.adam(RATE), cross_entropy)[1]
    assert abs(losses[0][0] - plain[0]) > 1e-3


@pytest.mark.parametrize("n_examples", [1, 999, 1000, 1001, 1003])
def test_every_example_is_predicted(digits: tuple[Examples, Examples], n_examples: int) -> None:
    """This includes the last, smaller batch."""
    _, valid = digits
    images = valid.images[:n_examples].reshape(n_examples, 784)
    program = program_of(**{"depth": 1, "width": 16, "precision": "fp32"})
    parameters = initial_state(program, seed=1).parameters
    found = np.asarray(jax.jit(partial(core.predict, program))(parameters, {}, images))

    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters)
    first = wide["hidden"][0]
    hidden = np.maximum(images / 255 @ first["kernel"] + first["bias"], 0)
    logits = hidden @ wide["logits"]["kernel"] + wide["logits"]["bias"]
    expected = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    assert found.shape == (n_examples, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_predictions_are_log_probabilities(digits: tuple[Examples, Examples]) -> None:
    _, valid = digits
    program = program_of(**{"depth": 2, "width": 16, "precision": "fp32"})
    parameters = initial_state(program, seed=1).parameters
    log_probabilities = jax.jit(partial(core.predict, program))(parameters, {}, valid.images.reshape(1003, 784))
    assert log_probabilities.shape == (1003, 10)
    np.testing.assert_allclose(np.exp(log_probabilities).sum(axis=1), 1, rtol=1e-5)
