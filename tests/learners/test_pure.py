"""The parts of the learners without JAX: schedules, stopping, cost, the split of hyperparameters, results."""

import dataclasses
import math

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.learners.catalog import MODELS, find_model
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.flax.program import OPTIMIZATION, Hyperparameters, Program, split
from mnist_hpo.learners.flax.schedules import Steps, learning_rates
from mnist_hpo.learners.hyperparameters import complete, parameters_of
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stopping import best_epoch, has_ended
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import ParameterSet

LOSSES = st.lists(st.floats(0, 10), min_size=1, max_size=12)


def whole_schedule(name: str, *, n_steps: int = 50, max_epochs: int = 20) -> np.ndarray:
    epochs = range(1, max_epochs + 1)
    return np.concatenate([learning_rates(name, 0.5, Steps(epoch, n_steps, max_epochs)) for epoch in epochs])


def test_a_constant_schedule_is_constant() -> None:
    assert np.all(whole_schedule("constant") == np.float32(0.5))


def test_the_cosine_schedule_agrees_with_optax() -> None:
    theirs = optax.cosine_decay_schedule(0.5, 1000)
    np.testing.assert_allclose(whole_schedule("cosine"), theirs(np.arange(1000)), rtol=1e-4, atol=1e-6)


def test_the_one_cycle_schedule_has_the_shape_of_optax() -> None:
    rates = whole_schedule("one_cycle")
    schedule = optax.cosine_onecycle_schedule(1000, 0.5, pct_start=0.3, div_factor=25)
    theirs = np.array([schedule(step) for step in range(0, 1000, 10)])
    # optax ends at 1/10,000 of its initial rate, ours at 1/10,000 of the peak.
    np.testing.assert_allclose(rates[::10], theirs, atol=0.5 * 1e-4)
    assert rates[0] == np.float32(0.5 / 25)
    assert np.argmax(rates) == 300
    assert rates[300] == np.float32(0.5)
    assert rates[-1] < 0.5 * 2e-4


@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_schedules_are_continuous_across_epochs_and_never_negative(name: str) -> None:
    rates = whole_schedule(name)
    assert rates.dtype == np.float32
    assert np.max(np.abs(np.diff(rates))) < 0.5 * 0.01
    assert np.min(rates) > 0


@given(LOSSES)
def test_the_best_epoch_is_the_first_with_the_lowest_loss(losses: list[float]) -> None:
    best = best_epoch(losses)
    assert losses[best - 1] == min(losses)
    assert min(losses) not in losses[: best - 1]


@given(LOSSES, st.integers(1, 12), st.none() | st.integers(1, 5))
def test_a_training_ends_when_its_budget_or_its_patience_is_used_up(
    losses: list[float], max_epochs: int, patience: int | None
) -> None:
    since_best = len(losses) - 1 - losses.index(min(losses))
    expected = len(losses) >= max_epochs or (patience is not None and since_best >= patience)
    assert has_ended(losses, max_epochs=max_epochs, patience_epochs=patience) == expected


def test_a_training_without_epochs_has_not_ended() -> None:
    assert not has_ended([], max_epochs=1, patience_epochs=1)


def result_of(train_loss: float, valid_loss: float | None) -> EpochResult:
    measures = {"epoch": 1, "train_loss": train_loss, "valid_loss": valid_loss, "valid_accuracy": None}
    return EpochResult(**dict.fromkeys(EpochResult.__dataclass_fields__, 0.0) | measures)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_is_a_divergence(loss: float) -> None:
    assert result_of(loss, 0.1).diverged
    assert result_of(0.1, loss).diverged
    assert not result_of(0.1, 0.1).diverged
    assert not result_of(0.1, None).diverged


def test_results_are_compared_bit_for_bit() -> None:
    assert result_of(0.1, 0.2).same_numbers(result_of(0.1, 0.2))
    assert not result_of(0.1, 0.2).same_numbers(result_of(0.1, math.nextafter(0.2, 1)))
    assert not result_of(0.1, 0.2).same_numbers(result_of(0.1, None))
    assert result_of(math.nan, 0.2).same_numbers(result_of(math.nan, 0.2))


def test_hyperparameters_have_defaults_and_only_those_of_shapes_are_static() -> None:
    parameters = {"width": 64, "learning_rate": 0.01, "dropout": 0.5}
    program, dynamic = split_of(parameters)
    assert dict(program.architecture).items() >= {"activation": "relu", "depth": 2, "width": 64}.items()
    assert (program.batch_size, program.optimizer, program.active) == (128, "adam", ("dropout",))
    assert (dynamic.learning_rate, dynamic.dropout, dynamic.l2, dynamic.schedule) == (0.01, 0.5, 0.0, "constant")
    for name, value in {"learning_rate": 0.02, "dropout": 0.1, "l1": 1, "l2": 1, "label_smoothing": 0.1}.items():
        assert split_of(parameters | {name: value})[0] == program
    for name, value in {"width": 65, "depth": 1, "batch_size": 64, "optimizer": "sgd", "dropout": 0}.items():
        assert split_of(parameters | {name: value})[0] != program
    assert complete("mlp", {}).keys() == parameters_of("mlp").keys() - {"n_train"} >= OPTIMIZATION.keys()


def split_of(parameters: ParameterSet) -> tuple[Program, Hyperparameters]:
    model = find_model("mlp")
    assert isinstance(model, FlaxModel)
    return split("mlp", model, complete("mlp", parameters), image_shape=(28, 28, 1), n_classes=10)


@pytest.mark.parametrize("model", MODELS.names)
def test_every_default_is_a_valid_value(model: str) -> None:
    for name, parameter in parameters_of(model).items():
        assert parameter.default is None or parameter.problem(parameter.default) is None, name


def test_the_cost_of_an_epoch_is_its_arithmetic() -> None:
    """784-128-10, 468 batches of 128 of 60,000 examples: 4 FLOPs per weight of the first layer, 6 per other weight."""
    data = DataShape((28, 28, 1), 10, n_train=60_000, n_valid=10_000)
    parameters = {"depth": 1, "width": 128, "batch_size": 128}
    described = describe("mlp", parameters, data)
    assert described.n_parameters == 784 * 128 + 128 + 128 * 10 + 10
    assert described.train_flops == (4 * 784 * 128 + 6 * 128 * 10) * 468 * 128
    assert isinstance(described.epoch_cost, int)
    assert described.epoch_cost > described.train_flops + 2 * (784 * 128 + 128 * 10) * 10_000
    more = describe("mlp", parameters, dataclasses.replace(data, n_valid=20_000))
    assert more.epoch_cost > described.epoch_cost


def test_the_cost_of_existing_studies_never_changes() -> None:
    """It determines the order of events, and with it the history of every recorded study."""
    data = DataShape((28, 28, 1), 10, n_train=50_000, n_valid=10_000)
    assert describe("mlp", {"depth": 2, "width": 128, "batch_size": 128}, data).epoch_cost == 27_767_528_640
    assert describe("mlp", {"depth": 1, "width": 512, "batch_size": 100}, data).epoch_cost == 90_048_360_000


def test_larger_models_and_smaller_batches_cost_more() -> None:
    def cost(**parameters: int) -> int:
        return describe("mlp", parameters, DataShape((28, 28, 1), 10, n_train=50_000, n_valid=10_000)).epoch_cost

    assert cost(width=32) < cost(width=64) < cost(width=128)
    assert cost(depth=1) < cost(depth=2)
    assert cost(batch_size=64) > cost(batch_size=128)
    assert cost(n_train=10_000) < cost(n_train=20_000) < cost()
    assert cost(n_train=50_000) == cost()
