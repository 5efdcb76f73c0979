"""Trainings with the optional hyperparameters on: checkpoints, averages, schedules, and that each still learns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.flax.program import OPTIONAL
from mnist_hpo.learners.protocol import Examples, Learner, State
from mnist_hpo.learners.training import Progress, Training
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.study import ParameterValue

MakeTraining = Callable[..., Training]
Digits = tuple[Examples, Examples]
Parameters = dict[str, ParameterValue]

EVERYTHING: Parameters = {
    "depth": 2,
    "width": 24,
    "batch_size": 50,
    "n_train": 500,
    "normalization": "batch",
    "residual": "yes",
    "schedule": "linear",
    "warmup": 0.2,
    "initializer": "xavier",
    "averaging": "ema",
    "ema_decay": 0.9,
    "label_smoothing": 0.05,
    "l2": 1e-5,
    "dropout": 0.1,
    "noise": 0.1,
    "max_norm": 2.0,
    "mixup": 0.4,
    "input_noise": 0.1,
    "input_dropout": 0.1,
    "rotation": 10,
    "translation": 1,
    "scaling": 0.1,
    "shear": 10,
    "elastic": 10,
    "erasing": 0.1,
}
STEPWISE: Parameters = {"n_train": 100, "batch_size": 100, "width": 16, "precision": "fp32", "learning_rate": 0.01}
"""An epoch is one step."""


def run(training: Training, n_epochs: int, progress: Progress | None = None) -> Progress:
    progress = progress or training.start()
    while len(progress.results) < n_epochs:
        training.advance(progress)
    return progress


def learner_of(digits: Digits, max_epochs: int, parameters: Parameters) -> Learner:
    """Return a learner that shares nothing with any other, as in a new process."""
    return LearnerFactory().make(TrainingConfig("mlp", parameters, 3, max_epochs), digits[0], n_classes=10)


def bits(tensors: Tensors) -> dict[str, bytes]:
    return {name: np.asarray(tensor).tobytes() for name, tensor in tensors.items()}


def losses(progress: Progress) -> list[tuple[float, float | None]]:
    return [(result.train_loss, result.valid_loss) for result in progress.results]


def test_these_trainings_have_every_option_on() -> None:
    """A new option must be added above."""
    assert EVERYTHING.keys() >= set(OPTIONAL)


@pytest.mark.parametrize(
    "averaging", ["ema", pytest.param("none", marks=pytest.mark.slow), pytest.param("swa", marks=pytest.mark.slow)]
)
def test_a_training_with_all_options_continues_from_a_file_bit_for_bit(
    digits: Digits, tmp_path: Path, averaging: str
) -> None:
    parameters = EVERYTHING | {"averaging": averaging, "swa_start": 0.3}
    config = TrainingConfig("mlp", parameters, 3, 4)
    learner = learner_of(digits, 4, parameters)
    whole = run(Training(config, learner, digits[1]), 4)

    again = learner_of(digits, 4, parameters)
    progress = run(Training(config, again, digits[1]), 1)
    for n_epochs in (2, 3, 4):
        save_file(again.save(progress.state), tmp_path / "state.safetensors")
        again = learner_of(digits, 4, parameters)
        state = again.load(load_file(tmp_path / "state.safetensors"))
        progress = run(
            Training(config, again, digits[1]), n_epochs, Progress(state, progress.kept_model, progress.results)
        )
    assert losses(progress) == losses(whole)
    assert bits(progress.kept_model) == bits(whole.kept_model)
    assert bits(again.save(progress.state)) == bits(learner.save(whole.state))


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_a_checkpoint_has_an_average_only_with_averaging(digits: Digits, normalization: str) -> None:
    parameters = STEPWISE | {"normalization": normalization}
    plain, averaged = (learner_of(digits, 4, parameters | {"averaging": name}) for name in ("none", "ema"))
    expected, found = plain.save(plain.start()), averaged.save(averaged.start())
    weights = {name for name in expected if name.startswith(("parameters", "statistics"))}
    assert not any("average" in name for name in expected)
    assert found.keys() == expected.keys() | {f"average.{name}" for name in weights}
    assert all(found[f"average.{name}"].shape == expected[name].shape for name in weights)
    assert plain.model(plain.start()).keys() == averaged.model(averaged.start()).keys()
    with pytest.raises(KeyError, match="average"):
        averaged.load(expected)


def step_by_step(learner: Learner, n_epochs: int) -> list[tuple[dict[str, np.ndarray], State]]:
    """Train, and return for each epoch a copy of the checkpoint's tensors and a state that may be used up."""
    state, states = learner.start(), []
    for epoch in range(1, n_epochs + 1):
        state = learner.advance(state, epoch).state
        kept = {name: np.array(tensor) for name, tensor in learner.save(state).items()}
        states.append((kept, learner.load({name: np.array(tensor) for name, tensor in kept.items()})))
    return states


def log_probabilities(tensors: Tensors, images: np.ndarray) -> np.ndarray:
    """Compute the default MLP with one hidden layer in float64."""
    x = images.reshape(len(images), -1) / 255
    for name in ("hidden.0", "logits"):
        x = x @ tensors[f"{name}.kernel"].astype(np.float64) + tensors[f"{name}.bias"]
        x = np.maximum(x, 0) if name == "hidden.0" else x
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_predictions_and_the_model_use_the_average_of_the_weights(digits: Digits, averaging: str) -> None:
    """With a decay of 0.6, the first two of six weights are averaged equally; SWA averages the last three."""
    parameters = STEPWISE | {"depth": 1, "averaging": averaging, "ema_decay": 0.6, "swa_start": 0.5}
    learner = learner_of(digits, 6, parameters)
    states = step_by_step(learner, 6)
    weights = [tensors["parameters['logits']['kernel']"].astype(np.float64) for tensors, _ in states]
    if averaging == "swa":
        expected = np.mean(weights[3:], axis=0)
    else:
        expected = np.mean(weights[:2], axis=0)
        for weight in weights[2:]:
            expected = 0.6 * expected + 0.4 * weight
    model = learner.model(states[-1][1])
    np.testing.assert_allclose(model["logits.kernel"], expected, atol=1e-6)
    assert np.abs(expected - weights[-1]).max() > 1e-3
    found = learner.predict(states[-1][1], digits[1].images)
    np.testing.assert_allclose(found, log_probabilities(model, digits[1].images), atol=1e-4)


def test_before_the_start_of_swa_a_training_equals_one_without(make_training: MakeTraining) -> None:
    plain = run(make_training(max_epochs=4, n_train=600), 4)
    swa = run(make_training(max_epochs=4, n_train=600, averaging="swa", swa_start=0.5), 4)
    assert losses(plain)[:2] == losses(swa)[:2]
    assert [loss for loss, _ in losses(plain)] == [loss for loss, _ in losses(swa)]
    assert losses(plain)[3] != losses(swa)[3]


def test_the_schedule_and_the_warm_up_of_the_study_file_reach_the_steps(digits: Digits) -> None:
    """The update of SGD is proportional to the learning rate, so it is compared with that of a constant one."""
    sgd = STEPWISE | {"optimizer": "sgd", "momentum": 0.0}
    learner = learner_of(digits, 8, sgd | {"schedule": "linear", "decay_start": 0.25, "warmup": 0.5})
    constant = learner_of(digits, 8, sgd)
    before = learner.save(learner.start())
    name = "parameters['logits']['kernel']"
    for step, (after, _) in enumerate(step_by_step(learner, 8)):
        state = constant.load({key: np.array(tensor) for key, tensor in before.items()})
        full = np.asarray(constant.save(constant.advance(state, step + 1).state)[name]) - before[name]
        factor = min(1, (8 - step) / 6) * min(1, (step + 1) / 5)
        np.testing.assert_allclose(after[name] - before[name], factor * full, atol=2e-7)
        before = after


def test_the_initializer_of_the_study_file_is_used(digits: Digits) -> None:
    he, xavier = (learner_of(digits, 1, {"initializer": name}) for name in ("he", "xavier"))
    first, second = (learner.model(learner.start())["hidden.0.kernel"] for learner in (he, xavier))
    # The same draws, scaled by the deviations for 784 inputs and 128 outputs.
    np.testing.assert_allclose(second, first * np.sqrt(784 / (784 + 128)), rtol=1e-5)


EACH: list[Parameters] = [
    {"input_dropout": 0.2},
    {"input_noise": 0.3},
    {"noise": 0.3},
    {"max_norm": 1.5},
    {"mixup": 0.4},
    {"averaging": "ema", "ema_decay": 0.95},
    {"averaging": "swa", "swa_start": 0.5},
    {"schedule": "linear"},
    {"warmup": 0.3},
    {"initializer": "xavier"},
    {"rotation": 15},
    {"translation": 2},
    {"scaling": 0.2},
    {"shear": 15},
    {"elastic": 30},
    {"erasing": 0.5},
    {"normalization": "batch"},
    {"normalization": "layer"},
    {"residual": "yes", "depth": 4},
    {"taper": 0.7, "depth": 4},
    {"activation": "elu"},
    {"activation": "leaky_relu"},
    {"activation": "sigmoid"},
]


@pytest.mark.parametrize("option", EACH, ids=lambda option: " ".join(map(str, option.items())))
def test_a_training_with_one_option_learns_digits(make_training: MakeTraining, option: Parameters) -> None:
    """1,500 digits, six epochs. Without options, the accuracy is about 0.91."""
    common = {"depth": 2, "width": 64, "batch_size": 50, "learning_rate": 0.003, "n_train": 1500}
    results = run(make_training(max_epochs=6, **common | option), 6).results
    assert results[-1].valid_accuracy is not None
    assert results[-1].valid_accuracy > 0.85
    assert results[-1].train_loss < results[0].train_loss


def test_a_training_with_all_options_learns_digits(make_training: MakeTraining) -> None:
    values = EVERYTHING | {"width": 128, "n_train": 2000, "learning_rate": 0.005}
    accuracy = run(make_training(max_epochs=8, **values), 8).results[-1].valid_accuracy
    assert accuracy is not None
    assert accuracy > 0.85
