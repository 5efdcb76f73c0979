"""Each optional change of a training step agrees with NumPy, JAX and optax.

A linear model without bias shows what a step passes to the module: if each example has its own class, and one class has
no example, then the gradients of the kernel determine the inputs.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numpy.typing import NDArray
from program import program_of
from scipy.stats import kstest

from mnist_hpo.learners.flax import core, variables
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.study import ParameterValue

Array = NDArray[Any]

BATCH, N_STEPS, RATE = 64, 8, 0.05
SEED = np.array([1, 2], np.uint32)


@pytest.fixture
def few(digits: tuple[Examples, Examples]) -> tuple[Array, Array]:
    train, _ = digits
    return train.images[:200].reshape(200, 784), np.asarray(train.labels[:200])


@pytest.fixture
def images(few: tuple[Array, Array]) -> Array:
    return few[0][:BATCH]


def dynamics(**values: float) -> core.Dynamics:
    return core.Dynamics(**{name: np.float32(value) for name, value in values.items()})


class Linear(nnx.Module):
    """Drops and disturbs its input, as a hidden layer does with its activations."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(784, BATCH + 1, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, dropout: Any) -> jax.Array:
        return self.linear(dropout(0, dropout.noise(0, x)))


@pytest.fixture(autouse=True)
def linear_model(monkeypatch: pytest.MonkeyPatch) -> None:
    found = FlaxModel(hyperparameters={}, module=lambda: lambda *_, rngs: Linear(rngs))
    original = variables.find_model
    monkeypatch.setattr(variables, "find_model", lambda name: found if name == "test linear" else original(name))


def passed(
    images: Array, *, step: int = 0, seed: Array = SEED, mixing: float | None = None, **values: float
) -> NDArray[np.float32]:
    """Return what a training step passes to the first product, f32[B, F], with these hyperparameters on."""
    active = tuple(name for name in values if name != "elastic_sigma") + (("mixup",) if mixing is not None else ())
    program = Program("test linear", (784,), BATCH + 1, (), BATCH, "sgd", "fp32", active, (28, 28, 1))
    state = core.init(program)._replace(step=jnp.uint32(step))
    rows = np.arange(BATCH, dtype=np.int32)
    shares = None if mixing is None else np.array([mixing], np.float32)
    per_step = core.PerStep(np.ones(1, np.float32), shares)
    epoch = jax.jit(partial(core.train_epoch, program))
    state, _ = epoch(state, images, rows.astype(np.uint8), rows[None], per_step, dynamics(**values), seed)
    # With weights of zero, each class has the probability 1 / (B + 1); the step is minus the gradient.
    gradient = -np.asarray(state.parameters["linear"]["kernel"], np.float64) * BATCH
    share = 1.0 if mixing is None else mixing
    mixed = gradient[:, BATCH:] - gradient[:, :BATCH]  # Column b is share · x_b + (1 - share) · x_(B - 1 - b).
    if share == 1.0:
        return mixed.T.astype(np.float32)
    other = mixed[:, ::-1]
    return ((share * mixed - (1 - share) * other) / (share**2 - (1 - share) ** 2)).T.astype(np.float32)


def test_without_options_the_pixels_are_passed(images: Array) -> None:
    np.testing.assert_allclose(passed(images), images / 255, atol=1e-5)


@pytest.mark.parametrize("name", ["input_noise", "noise"])
@pytest.mark.parametrize("deviation", [0.1, 0.5])
def test_noise_is_gaussian_with_the_given_deviation(images: Array, name: str, deviation: float) -> None:
    noise = (passed(images, **{name: deviation}) - images / 255) / deviation
    assert kstest(noise.ravel(), "norm").pvalue > 1e-3
    # Pixels and examples are independent.
    for first, second in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[:, 28:], noise[:, :-28])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


def test_the_noise_of_the_input_differs_from_that_of_a_layer_by_step_and_by_seed(images: Array) -> None:
    pixels = images / 255
    noises = [
        passed(images, input_noise=0.3) - pixels,
        passed(images, noise=0.3) - pixels,
        passed(images, input_noise=0.3, step=1) - pixels,
        passed(images, input_noise=0.3, seed=np.array([1, 3], np.uint32)) - pixels,
    ]
    correlations = np.corrcoef([noise.ravel() for noise in noises]) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(pixels.size)
    np.testing.assert_array_equal(passed(images, input_noise=0.3) - pixels, noises[0])


@pytest.mark.parametrize("name", ["input_dropout", "dropout"])
@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_dropout_sets_values_to_zero_and_scales_the_rest(name: str, rate: float) -> None:
    found = passed(np.full((BATCH, 784), 255, np.uint8), **{name: rate})
    dropped = np.abs(found) < 1e-4
    assert abs(dropped.sum() - rate * found.size) < 5 * np.sqrt(found.size * rate * (1 - rate))
    np.testing.assert_allclose(found[~dropped], 1 / (1 - rate), rtol=1e-4)


def test_a_layers_dropout_is_independent_of_its_noise_and_of_the_inputs_dropout() -> None:
    white = np.full((BATCH, 784), 255, np.uint8)
    signals = [
        passed(white, dropout=0.5) > 0.5,
        passed(white, input_dropout=0.5) > 0.5,
        passed(white, noise=0.1) - 1,
        passed(white, input_noise=0.1) - 1,
    ]
    correlations = np.corrcoef([signal.ravel() for signal in signals]) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(white.size)


def test_noise_is_added_before_dropout(images: Array) -> None:
    noisy = passed(images, input_noise=0.3)
    both = passed(images, input_noise=0.3, input_dropout=0.5)
    dropped = np.abs(both) < 1e-4
    assert 0.45 < dropped.mean() < 0.55
    np.testing.assert_allclose(both[~dropped], 2 * noisy[~dropped], atol=1e-3)


@pytest.mark.parametrize("name", ["dropout", "noise", "input_dropout", "input_noise", "rotation", "elastic", "erasing"])
def test_an_option_that_is_on_at_zero_changes_nothing(images: Array, name: str) -> None:
    np.testing.assert_allclose(passed(images, **{name: 0.0}), images / 255, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_mixup_mixes_each_image_with_the_one_at_the_mirrored_place(images: Array, share: float) -> None:
    pixels = images / 255
    expected = share * pixels + (1 - share) * pixels[::-1]
    np.testing.assert_allclose(passed(images, mixing=share), expected, atol=1e-4)


def test_images_are_augmented_then_mixed_then_disturbed(images: Array) -> None:
    geometry = {"rotation": 30.0, "elastic": 20.0, "elastic_sigma": 3.0, "erasing": 0.5}
    augmented, noise = passed(images, **geometry), passed(images, input_noise=0.2) - images / 255
    assert np.abs(augmented - images / 255).max() > 0.5
    expected = 0.3 * augmented + 0.7 * augmented[::-1] + noise
    np.testing.assert_allclose(passed(images, mixing=0.3, input_noise=0.2, **geometry), expected, atol=1e-3)


# Whole steps, against optax and a formula of the default MLP.


def small(**parameters: ParameterValue) -> Program:
    return program_of(**{"depth": 1, "width": 16, "batch_size": BATCH, "precision": "fp32"} | parameters)


def order() -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(0, 200, (N_STEPS, BATCH), dtype=np.int32)


def train(
    few: tuple[Array, Array],
    program: Program,
    values: core.Dynamics,
    state: core.TrainState | None = None,
    steps: slice = slice(None),
    **per_step: Array,
) -> tuple[core.TrainState, Array]:
    rates = np.full(N_STEPS, RATE, np.float32)
    now = core.PerStep(rates[steps], **{name: array[steps] for name, array in per_step.items()})
    epoch = jax.jit(partial(core.train_epoch, program))
    return epoch(state or initial_state(program, seed=1), *few, order()[steps], now, values, SEED)


def logits_of(parameters: Any, x: Array) -> jax.Array:
    first = parameters["hidden"][0]
    hidden = jax.nn.relu(x @ first["kernel"] + first["bias"][None])
    return hidden @ parameters["logits"]["kernel"] + parameters["logits"]["bias"][None]


def assert_trees_close(found: Any, expected: Any, **tolerances: float) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(partial(np.testing.assert_allclose, **tolerances), found, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixup_trains_on_mixed_images_and_mixed_targets(few: tuple[Array, Array], smoothing: float) -> None:
    shares = np.random.default_rng(1).uniform(size=N_STEPS).astype(np.float32)
    program = small(mixup=0.4, optimizer="sgd")
    state, losses = train(few, program, dynamics(label_smoothing=smoothing, momentum=0.8), mixing=shares)

    def loss(parameters: Any, images: Array, targets: Array) -> jax.Array:
        return optax.softmax_cross_entropy(logits_of(parameters, images), targets).mean()

    parameters, optimizer, expected = initial_state(program, seed=1).parameters, optax.sgd(RATE, momentum=0.8), []
    moments, step = optimizer.init(parameters), jax.jit(jax.value_and_grad(loss))
    for share, rows in zip(shares, order(), strict=True):
        images = few[0][rows].astype(np.float32) / np.float32(255)
        targets = np.eye(10, dtype=np.float32)[few[1][rows]] * (1 - smoothing) + np.float32(smoothing / 10)
        images, targets = (share * array + (1 - share) * array[::-1] for array in (images, targets))
        value, gradients = step(parameters, images, targets)
        updates, moments = optimizer.update(gradients, moments, parameters)
        parameters = optax.apply_updates(parameters, updates)
        expected.append(value)
    assert_trees_close(state.parameters, parameters, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_max_norm_limits_the_weights_into_each_unit_after_each_update(few: tuple[Array, Array], optimizer: str) -> None:
    limit = 0.9
    program = small(max_norm=limit, optimizer=optimizer)
    state, _ = train(few, program, dynamics(max_norm=limit, momentum=0.8))
    theirs = {"adam": optax.adam(RATE), "sgd": optax.sgd(RATE, momentum=0.8)}[optimizer]

    def loss(parameters: Any, images: Array, labels: Array) -> jax.Array:
        logits = logits_of(parameters, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    parameters, slopes = initial_state(program, seed=1).parameters, jax.jit(jax.grad(loss))
    moments, n_limited = theirs.init(parameters), 0
    for rows in order():
        gradients = slopes(parameters, few[0][rows].astype(np.float32) / np.float32(255), few[1][rows])
        updates, moments = theirs.update(gradients, moments, parameters)
        parameters = jax.tree.map(lambda p, u: np.asarray(p + u), parameters, updates)
        for layer in (parameters["hidden"][0], parameters["logits"]):
            norms = np.linalg.norm(layer["kernel"].astype(np.float64), axis=0)
            n_limited += int((norms > limit).sum())
            layer["kernel"] = (layer["kernel"] * np.minimum(1, limit / norms)).astype(np.float32)
    assert 0 < n_limited < N_STEPS * 26, "the limit holds for some units only"
    assert_trees_close(state.parameters, parameters, rtol=2e-3, atol=RATE / 20)
    assert np.linalg.norm(state.parameters["hidden"][0]["kernel"], axis=0).max() <= limit * (1 + 1e-6)


def test_max_norm_limits_each_filter_of_a_convolution(few: tuple[Array, Array]) -> None:
    program = program_of("cnn", channels=4, batch_size=BATCH, precision="fp32", max_norm=0.7)
    plain = program_of("cnn", channels=4, batch_size=BATCH, precision="fp32")
    one = slice(0, 1)
    free, bound = (train(few, p, dynamics(max_norm=0.7), steps=one)[0].parameters for p in (plain, program))
    for path, weights in jax.tree_util.tree_flatten_with_path(free)[0]:
        limited = bound
        for key in path:
            limited = limited[key.key]
        expected = np.asarray(weights)
        if path[-1].key == "kernel":
            axes = tuple(range(expected.ndim - 1))
            norms = np.sqrt((expected.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
            expected = expected * np.minimum(1, 0.7 / norms)
        np.testing.assert_allclose(limited, expected, rtol=1e-5, atol=1e-7, err_msg=str(path))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rounded_weights_are_those_after_max_norm(few: tuple[Array, Array], precision: str) -> None:
    """A second call rounds the weights again, so one call of eight steps must equal eight calls."""
    program = small(max_norm=0.5, precision=precision)
    whole, _ = train(few, program, dynamics(max_norm=0.5))
    state = initial_state(program, seed=1)
    for step in range(N_STEPS):
        state, _ = train(few, program, dynamics(max_norm=0.5), state, slice(step, step + 1))
    assert_trees_close(whole.parameters, state.parameters, rtol=1e-5, atol=1e-6)


def test_averages_equal_those_of_the_weights_after_each_step(few: tuple[Array, Array]) -> None:
    """The running moments of the normalisation are averaged likewise."""
    program = small(averaging="ema", normalization="batch", max_norm=0.9, dropout=0.2)
    shares = np.random.default_rng(2).uniform(0.1, 0.9, N_STEPS).astype(np.float32)
    shares[0] = 1
    values = dynamics(max_norm=0.9, dropout=0.2, momentum=0.9)
    whole, _ = train(few, program, values, averaging=shares)
    state, expected = initial_state(program, seed=1), None
    for step in range(N_STEPS):
        state, _ = train(few, program, values, state, slice(step, step + 1), averaging=shares)
        now, share = (state.parameters, state.statistics), float(shares[step])
        now = jax.tree.map(lambda w: np.asarray(w, np.float64), now)
        expected = jax.tree.map(lambda old, new, s=share: (1 - s) * old + s * new, expected or now, now)
    assert whole.average is not None
    assert_trees_close(tuple(whole.average), expected, rtol=1e-3, atol=2e-4)
    assert_trees_close(whole.predicting, expected, rtol=1e-3, atol=2e-4)
    difference = whole.average.parameters["logits"]["kernel"] - whole.parameters["logits"]["kernel"]
    assert np.abs(difference).max() > 0.01


def test_a_share_of_one_makes_the_average_the_last_weights_bit_for_bit(few: tuple[Array, Array]) -> None:
    program = small(averaging="swa", normalization="batch")
    state, _ = train(few, program, dynamics(), averaging=np.ones(N_STEPS, np.float32))
    assert state.average is not None
    jax.tree.map(np.testing.assert_array_equal, tuple(state.average), (state.parameters, state.statistics))


def test_without_averaging_the_state_has_no_average(few: tuple[Array, Array]) -> None:
    state, _ = train(few, small(), dynamics())
    assert state.average is None
    assert state.predicting == (state.parameters, state.statistics)


def test_averaging_does_not_change_the_training(few: tuple[Array, Array]) -> None:
    plain, losses = train(few, small(dropout=0.2), dynamics(dropout=0.2))
    program = small(dropout=0.2, averaging="swa")
    averaged, same = train(few, program, dynamics(dropout=0.2), averaging=np.full(N_STEPS, 0.5, np.float32))
    np.testing.assert_allclose(losses, same, rtol=1e-6)
    assert_trees_close(plain.parameters, averaged.parameters, rtol=1e-5, atol=1e-6)
