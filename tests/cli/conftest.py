"""Studies that ran once, and new working folders."""

from pathlib import Path
from typing import Any

import pytest
from command import Folder, Killed, killed_small

from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="session")
def status(finished: Folder) -> dict[str, Any]:
    return finished.status()


@pytest.fixture(scope="session")
def trials(finished: Folder) -> list[dict[str, Any]]:
    return finished.trials()


@pytest.fixture(scope="session")
def killed(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return killed_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def shared_tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store shared by the tests that do not read it, since creating one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def folder(mnist: PreparedDataset, tmp_path: Path, shared_tracking: str) -> Folder:
    """A new working folder that contains only the study file."""
    folder = Folder(tmp_path, shared_tracking)
    folder.write_study()
    return folder
