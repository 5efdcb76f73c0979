"""Trainings in this process, on a few thousand real digits."""

from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from mnist_hpo.data.arrays import load_search
from mnist_hpo.spec.study import ParameterValue
from mnist_hpo.training.config import TrainingConfig
from mnist_hpo.training.hyperparameters import split
from mnist_hpo.training.programs import Programs
from mnist_hpo.training.trainer import Examples, Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="session")
def programs() -> Programs:
    return Programs()


@pytest.fixture(scope="session")
def digits(few_digits: Path) -> tuple[Examples, Examples]:
    """5,000 to learn from, 1,003 to validate on."""
    arrays = load_search(few_digits, "standard")
    train = Examples(jax.device_put(arrays.train_images), jax.device_put(arrays.train_labels))
    return train, Examples(jax.device_put(arrays.valid_images), jax.device_put(arrays.valid_labels))


@pytest.fixture
def make_trainer(programs: Programs, digits: tuple[Examples, Examples]) -> MakeTrainer:
    def make(
        *,
        seed: int = 3,
        max_epochs: int = 10,
        patience_epochs: int | None = None,
        schedule_epochs: int | None = None,
        validates: bool = True,
        programs: Programs = programs,
        **parameters: ParameterValue,
    ) -> Trainer:
        values: dict[str, ParameterValue] = {"depth": 1, "width": 32, "batch_size": 100} | parameters
        config = TrainingConfig("mlp", values, seed, max_epochs, patience_epochs, schedule_epochs)
        program, dynamic = split("mlp", values, n_features=784, n_classes=10)
        train, valid = digits
        return Trainer(programs, config, program, dynamic, train, valid if validates else None)

    return make
