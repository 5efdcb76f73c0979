"""Jobs on a few thousand real digits, and executors that are closed whatever happens."""

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
    """A job of this many epochs; every optional hyperparameter is in use, so that all of the state matters."""

    def make(last_epoch: int, *, key: str = "0", max_epochs: int = 10, **parameters: ParameterValue) -> Job:
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
            training=TrainingConfig("mlp", values | parameters, seed=2**40 + 5, max_epochs=max_epochs),
            data=DataRef(str(few_digits), "standard", 10),
            last_epoch=last_epoch,
            checkpoint=str(tmp_path / "checkpoints" / f"trial-{key}.safetensors"),
        )

    return make


@pytest.fixture(scope="session")
def executor() -> Generator[LocalExecutor]:
    """One worker for all tests: to start one takes seconds, and what a test kills is replaced."""
    executor = LocalExecutor(1)
    yield executor
    executor.close()


@pytest.fixture
def listener(executor: LocalExecutor) -> Listener:
    return Listener(executor)
