"""Training a model epoch by epoch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from program import program_of

from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.weights import named
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.training import Progress, Training

MakeTraining = Callable[..., Training]


@pytest.fixture
def compiles() -> Iterator[list[float]]:
    """A list with the duration of each compilation by XLA's backend, in seconds."""
    durations_s: list[float] = []

    def listen(event: str, duration_s: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            durations_s.append(duration_s)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield durations_s
    jax.monitoring.unregister_event_duration_listener(listen)


def run(training: Training, n_epochs: int = 1000) -> Progress:
    progress = training.start()
    while len(progress.results) < n_epochs and not training.has_ended(progress):
        training.advance(progress)
    return progress


def leaves(tree: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def equal(first: Any, second: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(leaves(first), leaves(second), strict=True))


def same(first: list[EpochResult], second: list[EpochResult]) -> bool:
    return len(first) == len(second) and all(a.same_numbers(b) for a, b in zip(first, second, strict=True))


def test_a_small_mlp_learns_digits(make_training: MakeTraining) -> None:
    results = run(make_training(width=64, dropout=0.1, schedule="cosine", learning_rate=0.003), 8).results
    assert results[-1].valid_accuracy is not None
    assert results[-1].valid_accuracy > 0.92
    assert results[-1].train_loss < 0.2 < results[0].train_loss
    assert results[0].epoch == 1
    assert results[7].epoch == 8


def test_one_compiled_program_serves_all_values_of_the_dynamic_hyperparameters(
    make_training: MakeTraining, compiles: list[float]
) -> None:
    # Also compiles the small operations around a training, unless an earlier test has done so.
    run(make_training(learners=LearnerFactory(), width=24), 1)
    fresh, before = LearnerFactory(), len(compiles)
    for index in range(6):
        dynamic = {
            "learning_rate": 10.0 ** (index - 6),
            "dropout": 0.1 + 0.1 * index,
            "l1": 1e-6 * index,
            "l2": 1e-5 * index,
            "label_smoothing": 0.05 * index,
            "momentum": 0.1 * index,
            "schedule": ("constant", "cosine", "one_cycle")[index % 3],
        }
        run(make_training(learners=fresh, seed=index, max_epochs=2 + index, width=24, **dynamic), 2)
    assert len(compiles) - before == 2, "one compilation for the epoch and one for the evaluation"
    run(make_training(learners=fresh, width=24, dropout=0.2, optimizer="sgd"), 1)
    assert len(compiles) - before == 3, "another optimizer needs another epoch and the same evaluation"


def test_the_number_of_cached_programs_is_bounded_and_a_recompiled_one_gives_the_same_results(
    make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch, compiles: list[float]
) -> None:
    """Without a bound, a search over many widths would exhaust the memory."""
    monkeypatch.setattr("mnist_hpo.learners.flax.programs._N_KEPT", 3)
    kept = LearnerFactory()
    first = run(make_training(learners=kept, width=8), 1)
    for width in (16, 24):
        run(make_training(learners=kept, width=width), 1)
    n_before = len(compiles)
    again = run(make_training(learners=kept, width=8), 1)
    assert len(compiles) > n_before
    assert same(first.results, again.results)


def test_a_training_is_reproducible_bit_for_bit(make_training: MakeTraining) -> None:
    first, second = run(make_training(dropout=0.2), 3), run(make_training(dropout=0.2), 3)
    assert same(first.results, second.results)
    assert equal(first.state, second.state)
    assert not same(first.results, run(make_training(dropout=0.2, seed=4), 3).results)


def test_all_64_bits_of_the_seed_matter(make_training: MakeTraining) -> None:
    first, second = run(make_training(seed=5), 1), run(make_training(seed=5 + 2**40), 1)
    assert not same(first.results, second.results)


def test_a_larger_budget_does_not_change_the_epochs_of_a_constant_schedule(make_training: MakeTraining) -> None:
    assert same(run(make_training(max_epochs=3)).results, run(make_training(max_epochs=9), 3).results)


def test_a_re_training_that_stops_earlier_follows_the_trials_schedule(make_training: MakeTraining) -> None:
    trial = run(make_training(schedule="cosine", max_epochs=9), 3)
    again = run(make_training(schedule="cosine", max_epochs=3, schedule_epochs=9))
    assert same(trial.results, again.results)
    assert not same(trial.results, run(make_training(schedule="cosine", max_epochs=3)).results)


def test_patience_ends_a_training_and_keeps_the_weights_of_the_best_epoch(make_training: MakeTraining) -> None:
    training = make_training(learning_rate=0.03, max_epochs=40, patience_epochs=2, width=64)
    progress, states = training.start(), []
    while not training.has_ended(progress):
        training.advance(progress)
        states.append(named(progress.state.parameters, {}))
    losses = progress.valid_losses
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 40
    assert equal(progress.kept_model, states[best])
    assert not equal(progress.kept_model, states[-1])


def test_without_validation_every_epoch_is_the_best_and_patience_does_not_count(make_training: MakeTraining) -> None:
    progress = run(make_training(validates=False, max_epochs=4, patience_epochs=1))
    assert [result.valid_loss for result in progress.results] == [None] * 4
    assert equal(progress.kept_model, named(progress.state.parameters, {}))
    assert not progress.results[-1].diverged


@pytest.mark.parametrize(("optimizer", "depth"), [("sgd", 3), ("adam", 8)])
def test_a_learning_rate_of_a_million_diverges(make_training: MakeTraining, optimizer: str, depth: int) -> None:
    """Adam's steps are at most as long as the rate, so only a deep model overflows."""
    training = make_training(learning_rate=1e6, optimizer=optimizer, depth=depth, width=32)
    progress = run(training)
    assert progress.results[-1].diverged
    assert training.has_ended(progress)
    assert len(progress.results) < 10


def test_accuracy_and_loss_are_means_over_all_examples(make_training: MakeTraining) -> None:
    (result,) = run(make_training(), 1).results
    assert result.valid_accuracy is not None
    n_right = result.valid_accuracy * 1003
    assert n_right == pytest.approx(round(n_right), abs=1e-9)
    assert 0.1 < result.valid_accuracy < 1


def test_the_validation_measures_are_those_of_the_predictions(
    make_training: MakeTraining, digits: tuple[Examples, Examples]
) -> None:
    progress = run(make_training(width=32), 1)
    program = program_of(depth=1, width=32)
    _, valid = digits
    labels = np.asarray(valid.labels)
    predict = jax.jit(partial(core.predict, program))
    log_probabilities = np.asarray(predict(progress.state.parameters, {}, valid.images.reshape(1003, 784)), np.float64)
    assert progress.results[0].valid_loss == pytest.approx(-np.mean(log_probabilities[np.arange(1003), labels]))
    assert progress.results[0].valid_accuracy == np.mean(np.argmax(log_probabilities, axis=1) == labels)


def test_weights_are_initialised_as_he_et_al_do() -> None:
    program = program_of(depth=2, width=256)
    state = initial_state(program, seed=11)
    linears = [*state.parameters["hidden"].values(), state.parameters["logits"]]
    for linear, fan_in in zip(linears, (784, 256, 256), strict=True):
        assert linear["kernel"].std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert abs(linear["kernel"].mean()) < 0.01
        assert not linear["bias"].any()
    assert not any(leaf.any() for leaf in leaves((state.optimizer_state, state.step)))
    assert equal(state, initial_state(program, seed=11))
    assert not equal(state.parameters, initial_state(program, seed=12).parameters)
