"""Fixtures: jobs that train on a few thousand real digits, and an executor with one worker."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.spec.study import ParameterValue
from mnist_hpo.testing.listener import Listener

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(few_digits: Path, tmp_path: Path) -> MakeJob:
    """Return a function that makes a job; its hyperparameters use every part of a training's state."""

    def make(last_epoch: int, *, key: str = "0", max_epochs: int = 10, **hyperparameters: ParameterValue) -> Job:
        values: dict[str, ParameterValue] = {
            "depth": 2,
            "width": 32,
            "batch_size": 100,
            "dropout": 0.2,
            "l2": 1e-5,
            "schedule": "one_cycle",
            "learning_rate": 0.003,
        }
        return Job(
            key=key,
            training=TrainingConfig("mlp", values | hyperparameters, seed=2**40 + 5, max_epochs=max_epochs),
            data=DataRef(str(few_digits), "standard", 10),
            last_epoch=last_epoch,
            checkpoint=str(tmp_path / "checkpoints" / f"trial-{key}.safetensors"),
        )

    return make


@pytest.fixture(scope="session")
def executor() -> Generator[LocalExecutor]:
    """An executor with one worker, shared because a start takes seconds; it replaces workers that tests kill."""
    executor = LocalExecutor(1)
    yield executor
    executor.close()


@pytest.fixture
def listener(executor: LocalExecutor) -> Listener:
    return Listener(executor)
