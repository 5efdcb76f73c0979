"""Options and printing that several commands share."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from mnist_hpo.spec.errors import UserError, shown
from mnist_hpo.storage import DEFAULT_STORAGE as DEFAULT_STORAGE

_PIPE_WIDTH = 200
FOLDER = Path("mlruns")
"""The default folder for all state, relative to the working directory."""


def _utf8_url(url: str) -> str:
    """Return the URL unchanged. Refuse one that is not UTF-8, which no database driver accepts."""
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
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor",
        envvar="MNIST_HPO_EXECUTOR",
        metavar="NAME",
        help="Where trainings run: local, worker processes on this machine, or an executor that an installed package "
        "adds. Changes no result.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines to standard output.")]

DEFAULT_TRACKING = f"sqlite:///{FOLDER}/mlflow.db"


Chosen = TypeVar("Chosen", bound=str)


def one_of(option: str, value: str, choices: Sequence[Chosen]) -> Chosen:
    """Return the choice that an option names.

    Raises:
        UserError: there is no such choice.

    """
    for choice in choices:
        if choice == value:
            return choice
    raise UserError(f"{option} {shown(value)}: known are {', '.join(choices)}")


def print_json(value: Any) -> None:
    """Print one JSON document without colours. Commands pass a model from `cli.schemas`."""
    from pydantic import BaseModel

    json.dump(value.model_dump(mode="json") if isinstance(value, BaseModel) else value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for human readers. Progress goes to stderr, so that results can be piped."""
    # No markup: a name or a path may contain brackets.
    found = Console(stderr=to_stderr, highlight=False, markup=False)
    if not found.is_terminal:
        # Files and pipes have no width: truncate nothing.
        found.width = _PIPE_WIDTH
    return found


def command_line(*arguments: str) -> str:
    """Return a shell command that calls this program, as it was called here, with other arguments."""
    program = Path(sys.argv[0])
    on_path = shutil.which(program.name)
    called = program.name if on_path and Path(on_path) == program else os.path.relpath(program)
    return shlex.join([called, *arguments])
