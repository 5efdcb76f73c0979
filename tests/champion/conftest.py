"""A study that ran once, and its best trial, re-trained once."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from command import Folder, make_folder, retrained_small

from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Folder], Folder]:
    """Return a function that copies a folder's storage and MLflow store to a new folder, to be changed."""

    def copy(folder: Folder) -> Folder:
        other = make_folder(tmp_path_factory.getbasetemp(), "copy")
        folder.copy_record(other, "optuna.db", "mlflow.db")
        return other

    return copy


@pytest.fixture(scope="session")
def retrained(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return retrained_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def figures(retrained: Folder) -> dict[str, Any]:
    return json.loads((retrained.path / "champion.json").read_text())
