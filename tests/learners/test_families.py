"""Requirements on learners of every family, checked for each model of the catalog on a few hundred real digits."""

from collections.abc import Callable

import numpy as np
import pytest

from mnist_hpo.learners.catalog import MODELS
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory, make_predictor
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.subset import training_rows
from mnist_hpo.learners.training import Progress, Training
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.study import ParameterValue

MakeTraining = Callable[..., Training]
Digits = tuple[Examples, Examples]

SMALL: dict[str, dict[str, ParameterValue]] = {
    "mlp": {"depth": 1, "width": 32, "batch_size": 50, "dropout": 0.2, "learning_rate": 0.01, "optimizer": "sgd"},
    "cnn": {"channels": 4, "batch_size": 20, "dropout": 0.1, "learning_rate": 0.01, "kernel_size": 5},
    "rnn": {"width": 32, "batch_size": 10, "dropout": 0.1, "learning_rate": 0.01},
    "transformer": {"patch_size": 7, "width": 32, "depth": 1, "batch_size": 10, "learning_rate": 0.005},
    "svm": {"C": 5.0},
}
"""Hyperparameters for quick training; other models are trained with their defaults."""


def hyperparameters_of(model: str) -> dict[str, ParameterValue]:
    return {"n_train": 600, **SMALL.get(model, {})}


def run(training: Training, n_epochs: int, progress: Progress | None = None) -> Progress:
    progress = progress or training.start()
    while len(progress.results) < n_epochs:
        training.advance(progress)
    return progress


def bits(tensors: Tensors) -> dict[str, bytes]:
    return {name: np.asarray(tensor).tobytes() for name, tensor in tensors.items()}


def losses(progress: Progress) -> list[tuple[float, float | None]]:
    return [(result.train_loss, result.valid_loss) for result in progress.results]


@pytest.mark.parametrize("model", MODELS.names)
def test_a_model_learns(make_training: MakeTraining, model: str) -> None:
    progress = run(make_training(model=model, max_epochs=4, **hyperparameters_of(model)), 4)
    accuracies = [result.valid_accuracy or 0 for result in progress.results]
    assert accuracies[-1] > 0.6
    assert progress.valid_losses[-1] < np.log(10)


@pytest.mark.parametrize("model", MODELS.names)
def test_a_training_can_stop_after_any_epoch_and_continue(
    make_training: MakeTraining, learners: LearnerFactory, digits: Digits, model: str
) -> None:
    """Another learner continues from the tensors alone: a checkpoint holds everything that the next epoch needs."""
    whole = run(make_training(model=model, max_epochs=3, **hyperparameters_of(model)), 3)
    config = TrainingConfig(model, hyperparameters_of(model), 3, 3)
    progress = run(make_training(model=model, max_epochs=3, **hyperparameters_of(model)), 1)
    for n_epochs in (2, 3):
        saved = learners.make(config, digits[0], n_classes=10).save(progress.state)
        kept = {name: np.array(tensor) for name, tensor in saved.items()}
        again = LearnerFactory().make(config, digits[0], n_classes=10)
        training = Training(config, again, digits[1])
        progress = run(training, n_epochs, Progress(again.load(kept), progress.kept_model, progress.results))
    assert losses(progress) == losses(whole)
    assert bits(progress.kept_model) == bits(whole.kept_model)


@pytest.mark.parametrize("model", MODELS.names)
def test_a_predictor_made_from_tensors_agrees_with_the_learner(
    make_training: MakeTraining, learners: LearnerFactory, digits: Digits, model: str
) -> None:
    """On the validation examples too, so the bundle reproduces the recorded loss."""
    progress = run(make_training(model=model, max_epochs=2, **hyperparameters_of(model)), 2)
    learner = learners.make(TrainingConfig(model, hyperparameters_of(model), 3, 2), digits[0], n_classes=10)
    images, labels = digits[1].images, digits[1].labels
    predictor = make_predictor(model, hyperparameters_of(model), (28, 28, 1), 10, learner.model(progress.state))
    found = predictor(images)
    assert (found.shape, found.dtype) == ((len(labels), 10), np.float32)
    assert found.tobytes() == learner.predict(progress.state, images).tobytes()
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, rtol=1e-4)
    assert predictor(images[:0]).shape == (0, 10)
    loss = -np.mean(found[np.arange(len(labels)), labels], dtype=np.float64)
    assert loss == pytest.approx(progress.valid_losses[-1], rel=1e-6)


@pytest.mark.parametrize("model", MODELS.names)
def test_another_models_tensors_are_refused(model: str) -> None:
    with pytest.raises(ValueError, match="not the model's"):
        make_predictor(model, {}, (28, 28, 1), 10, {"weights": np.zeros(3, np.float32)})


@pytest.mark.parametrize("model", MODELS.names)
def test_only_the_subset_of_n_train_examples_is_used(digits: Digits, model: str) -> None:
    """Other examples have no effect; another seed draws another subset."""
    train, _ = digits
    rows = training_rows(len(train), 600, seed=3)
    assert len(set(rows.tolist())) == 600
    assert set(training_rows(len(train), 300, seed=3)) < set(rows)
    assert set(training_rows(len(train), 600, seed=4)) != set(rows)
    blank = np.zeros_like(train.images)
    blank[rows] = train.images[rows]
    config = TrainingConfig(model, hyperparameters_of(model), 3, 2)
    factory = LearnerFactory()
    results = [
        losses(run(Training(config, factory.make(config, examples, n_classes=10), digits[1]), 2))
        for examples in (train, Examples(blank, train.labels))
    ]
    assert results[0] == results[1]
    config = TrainingConfig(model, hyperparameters_of(model), 4, 2)
    other = Training(config, factory.make(config, Examples(blank, train.labels), n_classes=10), digits[1])
    assert losses(run(other, 2)) != results[0]


def test_a_scikit_learn_estimator_is_fitted_to_a_growing_share(make_training: MakeTraining) -> None:
    """Epoch e of E fits the estimator to e / E of the examples."""
    progress = run(make_training(model="svm", max_epochs=3, n_train=600), 3)
    first, second, third = progress.valid_losses
    assert first > second > third
    whole = run(make_training(model="svm", max_epochs=1, n_train=600), 1)
    assert whole.valid_losses == progress.valid_losses[-1:]
    again = run(make_training(model="svm", max_epochs=2, schedule_epochs=3, n_train=600), 2)
    assert again.valid_losses == progress.valid_losses[:2]


def test_examples_for_the_calibration_are_not_fitted_to(make_training: MakeTraining, digits: Digits) -> None:
    """A model of nearest neighbours stores the examples that it is fitted to. By default a tenth is held out."""
    rows = training_rows(len(digits[0]), 600, seed=3)
    for values, n_held_out in (({}, 60), ({"calibration_share": 0.02}, 12)):
        progress = run(make_training(model="knn", max_epochs=1, n_train=600, **values), 1)
        expected = digits[0].images[rows[n_held_out:]].reshape(600 - n_held_out, -1)
        assert np.array_equal(progress.kept_model["images"], expected)
