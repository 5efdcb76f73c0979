"""Resolve a study given as its name, its file, or a `Study`. Importing this loads neither Optuna nor MLflow."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.spec.reader import StudyFile
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.study_storage import StudyStorage


def study_name(study: str | Path | Study) -> str:
    """Return the name of a study given as its name, its file, or a `Study`.

    Raises:
        UserError: the file cannot be read, or the text is neither a name nor a file.

    """
    if not isinstance(study, str | Path):
        return study.name
    if isinstance(study, str) and not is_file(study):
        return study
    from mnist_hpo.spec.reader import read_study

    return read_study(Path(study)).study.name


def study_path(study: str | Path) -> Path:
    """Return the file of a study given as its file or name: `quickstart` is `studies/quickstart.yaml` if it exists."""
    in_folder = Path("studies") / f"{study}.yaml"
    # Search the listing instead of opening a path: a name may be too long for the file system.
    is_name = isinstance(study, str) and not is_file(study)
    return in_folder if is_name and in_folder in Path("studies").glob("*.yaml") else Path(study)


def checked_study(study: str | Path | Study) -> StudyFile:
    """Read a study, and check everything that can be checked before it runs.

    Raises:
        UserError: the study is invalid; the message names the file, the line, the value and a fix.

    """
    from mnist_hpo.data.folder import with_folder_read
    from mnist_hpo.search.check import check_study
    from mnist_hpo.spec.reader import read_study, to_study_file

    file = with_folder_read(read_study(study_path(study)) if isinstance(study, str | Path) else to_study_file(study))
    check_study(file)
    return file


def recorded_study(storage_url: str, study: str | Path | Study) -> tuple[StudyStorage, StudyFile]:
    """Open a study in the storage, with the study file of its last run.

    Raises:
        UserError: the storage or the study does not exist.

    """
    from mnist_hpo.storage.study_storage import StudyStorage

    storage = StudyStorage.load(storage_url, study_name(study))
    return storage, storage.read_study_file()


def champion_folder(mlruns: Path, record: StudyStorage) -> Path:
    """Return the folder of a study's re-trained trials; it is unique even among studies of the same name."""
    return mlruns / "champions" / record.folder_name


def is_file(study: str) -> bool:
    """Return whether a text is a study's file rather than its name."""
    if any(unicodedata.category(character) == "Cc" for character in study):
        raise UserError(f"{study!r} is not a study's name or file: it has control characters")
    return study.endswith((".yaml", ".yml")) or "/" in study
