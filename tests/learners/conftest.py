"""Fixtures for training in this process, on a few thousand real digits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_hpo.data.arrays import load_search
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.training import Training
from mnist_hpo.spec.study import ParameterValue

MakeTraining = Callable[..., Training]


@pytest.fixture(scope="session")
def learners() -> LearnerFactory:
    return LearnerFactory()


@pytest.fixture(scope="session")
def digits(few_digits: Path) -> tuple[Examples, Examples]:
    """5,000 training and 1,003 validation examples."""
    arrays = load_search(few_digits, "standard")
    train, valid = (images.reshape(-1, *arrays.image_shape) for images in (arrays.train_images, arrays.valid_images))
    return Examples(train, arrays.train_labels), Examples(valid, arrays.valid_labels)


@pytest.fixture
def make_training(learners: LearnerFactory, digits: tuple[Examples, Examples]) -> MakeTraining:
    def make(
        *,
        model: str = "mlp",
        seed: int = 3,
        max_epochs: int = 10,
        patience_epochs: int | None = None,
        schedule_epochs: int | None = None,
        validates: bool = True,
        learners: LearnerFactory = learners,
        **parameters: ParameterValue,
    ) -> Training:
        values = ({"depth": 1, "width": 32, "batch_size": 100} if model == "mlp" else {}) | parameters
        config = TrainingConfig(model, values, seed, max_epochs, patience_epochs, schedule_epochs)
        train, valid = digits
        learner = learners.make(config, train, n_classes=10)
        return Training(config, learner, valid if validates else None)

    return make
