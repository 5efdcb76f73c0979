"""`mnist-hpo report`: a study as one HTML page."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    StorageOption,
    StudyArgument,
    champion_folder,
    console,
    recorded_study,
)
from mnist_hpo.spec.errors import UserError

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; ./STUDY.html by default.")
]


def report(study: StudyArgument, output: OutputOption = None, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Write a study's report: one HTML page that needs no network, to look at or to send.

    It says why the best trial won, and shows the history, importances, learning curves, timeline and, after
    mnist-hpo retrain, the champion's test. A study may be running, unfinished or finished.

    Example: mnist-hpo report quickstart -o quickstart.html
    """
    record, file = recorded_study(storage, study)
    path = output or Path(f"{record.name}.html")
    _refuse_unwritable(path)
    from mnist_hpo.report.champion_test import read_champion_tests
    from mnist_hpo.report.page import report_html
    from mnist_hpo.report.view import StudyView
    from mnist_hpo.storage.lock import is_held

    with console(to_stderr=True).status("report: reading the record") as status:
        view = StudyView(
            file.study, record.study_file, record.context, tuple(record.trials()), is_held(record.url, record.name)
        )
        tests = read_champion_tests(champion_folder(record))
        told = f"report: {len(view.trials):,} trials, "
        html = report_html(view, tests, on_step=lambda step: status.update(told + step))
        _write(path, html)
    console().print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser", soft_wrap=True)


def _refuse_unwritable(path: Path) -> None:
    """Before the work is done in vain."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; name a file in it: {path / 'report.html'}")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}; make it first, or name another file")


def _write(path: Path, html: str) -> None:
    """Whole or not at all: what was there before stays where the disk is full."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(html, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
