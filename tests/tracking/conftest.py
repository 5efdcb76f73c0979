"""Studies that were run once, and fresh folders."""

from pathlib import Path
from typing import Any

import pytest
from command import Folder, Killed, killed_small

from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="session")
def trials(finished: Folder) -> list[dict[str, Any]]:
    return finished.trials()


@pytest.fixture(scope="session")
def killed(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return killed_small(tmp_path_factory.getbasetemp())


@pytest.fixture
def folder(mnist: PreparedDataset, tmp_path: Path) -> Folder:
    """An empty working folder but for the study file."""
    folder = Folder(tmp_path)
    folder.write_study()
    return folder
