"""Fixtures shared by tests of several packages: real MNIST, study files, and a worker's XLA settings."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_hpo.executors.environment import worker_environment

# Set before anything imports JAX. In addition to a worker's settings, implicit rank promotion raises an error.
os.environ.update(worker_environment(), JAX_NUMPY_RANK_PROMOTION="raise")

import numpy as np
import pytest
from command import Folder, finished_small
from hypothesis import HealthCheck, settings

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.prepared import SEARCH_IMAGES, SEARCH_LABELS, PreparedDataset, save_metadata
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.spec.reader import StudyFile, read_study

# A shell starts background jobs with SIGINT ignored, and the programs that the tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("default")

STUDY = """\
name: small
description: a search that the tests change line by line
seed: 1
dataset: mnist
split: standard
model: mlp
budget:
  n_trials: 4
  max_epochs: 9
slots: 2
sampler: random
pruner: none
space:
  learning_rate: {type: float, low: 0.0001, high: 0.1, log: true}
  width: {type: categorical, choices: [32, 64]}
  dropout:
    type: float
    low: 0.0
    high: 0.5
    step: 0.25
fixed:
  depth: 2
enqueue:
  - {learning_rate: 0.001, width: 32, dropout: 0.25}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a timeout of an hour: on a busy machine they take many times longer than on an idle one."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how to repeat the order of the tests; with -q, pytest-randomly prints nothing."""
    terminalreporter.write_line(f"order of the tests: --randomly-seed={config.getoption('randomly_seed', None)}")


_SET_BY_LIBRARIES = ("PYTEST_CURRENT_TEST", "_MLFLOW_TELEMETRY_SESSION_ID", "KMP_", "TPU_SKIP_")
"""Prefixes of variables that pytest, MLflow, scikit-learn and JAX set themselves, and that mnist-hpo does not read."""


def process_state() -> tuple[str, dict[str, str]]:
    """Return what child processes inherit: the working folder and the environment."""
    return str(Path.cwd()), {
        name: value for name, value in os.environ.items() if not name.startswith(_SET_BY_LIBRARIES)
    }


@pytest.fixture(autouse=True)
def unchanged_process_state() -> Iterator[None]:
    """Fail a test that changes state which later tests and their child processes would inherit."""
    before = process_state()
    yield
    assert process_state() == before


@pytest.fixture(scope="session")
def mnist() -> PreparedDataset:
    return prepare(dataset_info("mnist"), log=print)


@pytest.fixture(scope="session")
def finished(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A study that ran once, with default options; shared, so tests must not change it."""
    return finished_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def few_digits(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset of real digits for worker processes: 5,000 training and 1,003 validation examples."""
    directory = tmp_path_factory.mktemp("few-digits")
    (directory / "standard").mkdir()
    arrays = load_search(mnist.directory, "standard")
    np.save(directory / "standard" / SEARCH_IMAGES, arrays.development_images[:6003])
    np.save(directory / "standard" / SEARCH_LABELS, arrays.development_labels[:6003])
    split = dataclasses.replace(mnist.splits["standard"], n_train=5000, n_valid=1003, n_test=0)
    save_metadata(dataclasses.replace(mnist, directory=directory, splits={"standard": split}))
    return directory


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes `STUDY` with texts replaced: write_study("seed: 1", "seed: 2")."""

    def write(*changes: str) -> Path:
        text = STUDY
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert text.count(old) == 1
            text = text.replace(old, new)
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def study_of(write_study: Callable[..., Path]) -> Callable[..., StudyFile]:
    """Return a function that reads `STUDY` with texts replaced, as `write_study` does."""
    return lambda *changes: read_study(write_study(*changes))
