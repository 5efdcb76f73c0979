"""`mnist-hpo report`: a study as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.api.studies import champion_folder, recorded_study
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    FOLDER,
    StorageOption,
    StudyArgument,
    console,
)
from mnist_hpo.cli.output_file import HTML_PAGE, ForceOption, OutputFile

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The page to write; by default ./STUDY.html; - for stdout."),
]


def report(
    study: StudyArgument,
    output: OutputOption = None,
    force: ForceOption = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Write a study's report: one self-contained HTML page that needs no network.

    It explains why the best trial won, and shows the history, importances, learning curves, timeline and, after
    mnist-hpo retrain, the champion's test results. The study may be running, unfinished or finished.

    Example: mnist-hpo report quickstart -o quickstart.html
    """
    record, _ = recorded_study(storage, study)
    page = OutputFile("--output", output or Path(f"{record.name}.html"), HTML_PAGE, force)
    page.check()
    from mnist_hpo.analysis.champion_files import read_champion_tests
    from mnist_hpo.analysis.reading import read_view
    from mnist_hpo.report.page import report_html

    with console(to_stderr=True).status("report: reading the trials") as status:
        view = read_view(record)
        tests = read_champion_tests(champion_folder(FOLDER, record))
        prefix = f"report: {len(view.trials):,} trials, "
        html = report_html(view, tests, on_step=lambda step: status.update(prefix + step)).encode()
    page.write(html)
    if not page.is_stream:
        console().print(f"report: {page.path} ({len(html) / 1e6:.1f} MB); open it in a browser", soft_wrap=True)
