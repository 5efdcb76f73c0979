"""A study that the command line has run, and the same study run from Python."""

from pathlib import Path

import pytest
from command import SMALL, Folder

import mnist_hpo
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.runner import StudyResult


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api-study") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the study is run from Python."""
    return tmp_path_factory.mktemp("api-home")


@pytest.fixture(scope="session")
def result(mnist: PreparedDataset, study_file: Path, home: Path) -> StudyResult:
    return mnist_hpo.run_study(study_file, folder=home, progress=False)


@pytest.fixture
def recorded(finished: Folder, tmp_path: Path) -> Path:
    """A folder of its own with the record of the study that the command line has run, without models."""
    finished.copy_record(Folder(tmp_path))
    return tmp_path
