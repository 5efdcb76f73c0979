"""Trainings that start from another model's weights, and learning rates by layer."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray
from program import program_of
from safetensors.numpy import save_file

from mnist_hpo.learners.config import InitialWeights, TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.protocol import Examples, Learner
from mnist_hpo.learners.stored_weights import weights_sha256
from mnist_hpo.learners.training import Training
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.study import ParameterValue

BATCH, N_STEPS, RATE = 50, 6, 0.01
SEED = np.array([1, 2], np.uint32)

MakeLearner = Callable[..., Learner]


@pytest.fixture
def make_learner(learners: LearnerFactory, digits: tuple[Examples, Examples]) -> MakeLearner:
    def make(initial: InitialWeights | None = None, *, seed: int = 3, **parameters: ParameterValue) -> Learner:
        values = {"depth": 2, "width": 32, "batch_size": 100, "normalization": "batch"} | parameters
        config = TrainingConfig("mlp", values, seed, max_epochs=3, initial=initial)
        return learners.make(config, digits[0], n_classes=10)

    return make


def stored(folder: Path, tensors: Tensors, layers: Any = "all", factor: float = 1.0) -> InitialWeights:
    path = folder / "weights.safetensors"
    save_file(dict(tensors), path)
    return InitialWeights(str(path), weights_sha256(tensors), layers, factor)


@pytest.fixture
def source(make_learner: MakeLearner) -> Tensors:
    """The model of another seed after an epoch."""
    learner = make_learner(seed=7)
    return learner.model(learner.advance(learner.start(), 1).state)


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_a_training_starts_from_the_weights_and_moments_of_the_source(
    make_learner: MakeLearner, source: Tensors, tmp_path: Path
) -> None:
    learner = make_learner(stored(tmp_path, source))
    assert_equal(learner.model(learner.start()), source)
    assert any(name.endswith("norms.0.mean") and np.any(tensor != 0) for name, tensor in source.items())


def test_the_last_layer_can_start_from_the_random_weights_of_the_trainings_seed(
    make_learner: MakeLearner, source: Tensors, tmp_path: Path
) -> None:
    plain, learner = make_learner(), make_learner(stored(tmp_path, source, "all_but_last"))
    random = plain.model(plain.start())
    expected = {name: random[name] if name.startswith("logits.") else tensor for name, tensor in source.items()}
    assert_equal(learner.model(learner.start()), expected)


def test_a_pretrained_model_needs_fewer_epochs(
    digits: tuple[Examples, Examples], make_learner: MakeLearner, source: Tensors, tmp_path: Path
) -> None:
    losses: list[float] = []
    for initial in (None, stored(tmp_path, source)):
        training = Training(TrainingConfig("mlp", {}, 3, 3), make_learner(initial), digits[1])
        loss = training.advance(training.start()).valid_loss
        assert loss is not None
        losses.append(loss)
    assert losses[1] < 0.9 * losses[0]


def test_weights_of_another_shape_are_rejected(make_learner: MakeLearner, source: Tensors, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"do not match the model: hidden\.0\.\w+ is float32 of shape .*32.*needs .*33"):
        make_learner(stored(tmp_path, source), width=33).start()


def test_changed_or_missing_weights_are_rejected(make_learner: MakeLearner, source: Tensors, tmp_path: Path) -> None:
    initial = stored(tmp_path, source)
    save_file({**source, "logits.bias": source["logits.bias"] + np.float32(1e-7)}, initial.path)
    with pytest.raises(UserError, match="have changed since they were written"):
        make_learner(initial).start()
    Path(initial.path).unlink()
    with pytest.raises(UserError, match="are missing"):
        make_learner(initial).start()


def test_the_digest_depends_on_the_content_alone(source: Tensors) -> None:
    found = weights_sha256(source)
    assert weights_sha256(dict(reversed(source.items()))) == found
    name = "logits.kernel"
    assert weights_sha256({**source, name: source[name].T}) != found
    assert weights_sha256({**source, name: source[name].astype(np.float64)}) != found
    assert weights_sha256({f"{key}x": tensor for key, tensor in source.items()}) != found


# Learning rates by layer


def train(
    examples: Examples, program: Program, rate: float, state: core.TrainState | None = None, steps: slice = slice(None)
) -> core.TrainState:
    order = np.arange(N_STEPS * BATCH, dtype=np.int32).reshape(N_STEPS, BATCH)[steps]
    per_step = core.PerStep(np.full(len(order), rate, np.float32))
    dynamics = core.Dynamics(momentum=np.float32(0.9), l2=np.float32(1e-3))
    epoch = jax.jit(partial(core.train_epoch, program))
    images = examples.images.reshape(len(examples), -1)
    start = state or initial_state(program, seed=1)
    return epoch(start, images, examples.labels, order, per_step, dynamics, SEED)[0]


def small(factors: tuple[float, float] = (1.0, 1.0), **parameters: ParameterValue) -> Program:
    values = {"depth": 2, "width": 16, "batch_size": BATCH, "precision": "fp32"} | parameters
    return replace(program_of(**values), learning_rate_factors=factors)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "sgd_nesterov", "rmsprop"])
def test_each_layer_takes_a_step_with_its_own_learning_rate(digits: tuple[Examples, Examples], optimizer: str) -> None:
    first = slice(0, 1)
    whole, tenth = (train(digits[0], small(optimizer=optimizer), rate, steps=first) for rate in (RATE, RATE / 10))
    mixed = train(digits[0], small((1.0, 0.1), optimizer=optimizer), RATE, steps=first)
    assert_trees_close(mixed.parameters["logits"], whole.parameters["logits"], rtol=0)
    assert_trees_close(mixed.parameters["hidden"], tenth.parameters["hidden"], rtol=1e-5, atol=1e-7)
    assert_trees_close(mixed.optimizer_state, whole.optimizer_state, rtol=0)


def test_several_steps_equal_those_of_optax(digits: tuple[Examples, Examples]) -> None:
    program = small((1.0, 0.1), optimizer="sgd", depth=1)
    start = jax.tree.map(jnp.asarray, initial_state(program, seed=1).parameters)
    rates = {"hidden": optax.sgd(0.1 * RATE, momentum=0.9), "logits": optax.sgd(RATE, momentum=0.9)}
    optimizer = optax.multi_transform(rates, {name: name for name in rates})
    parameters, state = start, optimizer.init(start)
    images = digits[0].images.reshape(len(digits[0]), -1)

    def loss(parameters: Any, x: NDArray[Any], y: NDArray[Any]) -> jax.Array:
        hidden = parameters["hidden"][0]
        activations = jax.nn.relu(x @ hidden["kernel"] + hidden["bias"][None])
        logits = activations @ parameters["logits"]["kernel"] + parameters["logits"]["bias"][None]
        penalty = sum((w**2).sum() for w in (hidden["kernel"], parameters["logits"]["kernel"]))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() + 1e-3 * penalty

    for step in range(N_STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        gradients = jax.grad(loss)(parameters, images[rows] / np.float32(255), np.asarray(digits[0].labels[rows]))
        updates, state = optimizer.update(gradients, state)
        parameters = optax.apply_updates(parameters, updates)
    assert_trees_close(train(digits[0], program, RATE).parameters, parameters, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_factor_of_zero_keeps_the_weights(digits: tuple[Examples, Examples], optimizer: str) -> None:
    program = small((1.0, 0.0), optimizer=optimizer)
    before, after = initial_state(program, seed=1).parameters, train(digits[0], program, RATE).parameters
    assert_trees_close(after["hidden"], before["hidden"], rtol=0)
    assert np.abs(after["logits"]["kernel"] - before["logits"]["kernel"]).max() > RATE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rounded_weights_are_those_after_the_smaller_step(
    digits: tuple[Examples, Examples], precision: str
) -> None:
    """A second call rounds the weights again, so one call of six steps must equal six calls."""
    program = small((1.0, 0.1), precision=precision)
    whole, state = train(digits[0], program, RATE), None
    for step in range(N_STEPS):
        state = train(digits[0], program, RATE, state, slice(step, step + 1))
    assert state is not None
    assert_trees_close(whole.parameters, state.parameters, rtol=1e-5, atol=1e-6)


def test_a_factor_of_one_is_the_default_program() -> None:
    for layers in ("all", "all_but_last"):
        initial = InitialWeights("", "", layers, 1.0)
        assert small(initial.learning_rate_factors) == small()
    assert InitialWeights("", "", "all", 0.5).learning_rate_factors == (0.5, 0.5)
    assert InitialWeights("", "", "all_but_last", 0.5).learning_rate_factors == (1.0, 0.5)


def assert_trees_close(found: Any, expected: Any, **tolerances: float) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(partial(np.testing.assert_allclose, **tolerances), found, expected)
