"""What several verbs share: their options, how a study is named, how JSON is printed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage import DEFAULT_STORAGE as DEFAULT_STORAGE

if TYPE_CHECKING:
    from mnist_hpo.spec.reader import StudyFile
    from mnist_hpo.storage.study_storage import StudyStorage

_PIPE_WIDTH = 200
FOLDER = Path("mlruns")
"""Where all state lies by default, in the working folder."""


def _utf8_url(url: str) -> str:
    """Refuse what no database driver takes: a URL of bytes that are not UTF-8."""
    try:
        url.encode()
    except UnicodeEncodeError:
        raise UserError(f"{url!r}: is not a URL in UTF-8") from None
    return url


StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or its file.")]
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="MNIST_HPO_STORAGE",
        metavar="URL",
        callback=_utf8_url,
        help="The Optuna storage: sqlite:///FILE, journal:///FILE or postgresql+psycopg://…",
    ),
]
TrackingOption = Annotated[
    str,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        metavar="URI",
        callback=_utf8_url,
        help="The MLflow tracking store or server.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines to standard output.")]

DEFAULT_TRACKING = f"sqlite:///{FOLDER}/mlflow.db"


def study_name(study: str) -> str:
    """The name that a study's name or file stands for."""
    if not _is_file(study):
        return study
    from mnist_hpo.spec.reader import read_study

    return read_study(Path(study)).study.name


def study_path(study: str) -> Path:
    """The file that a study's file or name stands for: `quickstart` is `studies/quickstart.yaml` where that exists."""
    in_folder = Path("studies") / f"{study}.yaml"
    # Listed rather than looked up: a name may be too long for the file system.
    return in_folder if not _is_file(study) and in_folder in Path("studies").glob("*.yaml") else Path(study)


def recorded_study(storage_url: str, study: str) -> tuple[StudyStorage, StudyFile]:
    """Open a study in the storage, with the study file as it was run last."""
    from mnist_hpo.spec.reader import parse_study
    from mnist_hpo.storage.study_storage import StudyStorage

    storage = StudyStorage.load(storage_url, study_name(study))
    return storage, parse_study(storage.study_file, Path(f"{storage.name}.yaml"))


def champion_folder(record: StudyStorage) -> Path:
    """Where the re-trained trials of a study lie; another study of the same name has another."""
    return FOLDER / "champions" / record.folder_name


def print_json(value: Any) -> None:
    """Print JSON as machines read it: one document, no colours. A verb's is a model of `cli.schemas`."""
    from pydantic import BaseModel

    json.dump(value.model_dump(mode="json") if isinstance(value, BaseModel) else value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console(*, to_stderr: bool = False) -> Console:
    """Where people read; progress goes to stderr, so that results can be piped."""
    # No markup: a name or a path may hold brackets.
    found = Console(stderr=to_stderr, highlight=False, markup=False)
    if not found.is_terminal:
        # Files and pipes have no width: cut nothing off.
        found.width = _PIPE_WIDTH
    return found


def command_line(*arguments: str) -> str:
    """The program as it was called here, with other arguments: what a person can paste."""
    program = Path(sys.argv[0])
    on_path = shutil.which(program.name)
    called = program.name if on_path and Path(on_path) == program else os.path.relpath(program)
    return shlex.join([called, *arguments])


def _is_file(study: str) -> bool:
    if any(unicodedata.category(character) == "Cc" for character in study):
        raise UserError(f"{study!r} is no study's name or file: it has control characters")
    return study.endswith((".yaml", ".yml")) or "/" in study
