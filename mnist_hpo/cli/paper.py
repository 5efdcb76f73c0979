"""`mnist-hpo paper`: the paper's comparison of methods, measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    ExecutorOption,
    JsonOption,
    StorageOption,
    TrackingOption,
    console,
    print_json,
)
from mnist_hpo.cli.output_file import (
    MARKDOWN_TABLE,
    PNG_PICTURE,
    ForceOption,
    OutputFile,
    check_outputs,
    write_and_report,
)
from mnist_hpo.cli.training_progress import TrainingProgress
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR

if TYPE_CHECKING:
    from mnist_hpo.api.paper import Row


def paper(
    quick: Annotated[
        bool, typer.Option("--quick", help="A short form with few digits: it shows that every method works.")
    ] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="Only this method, such as svm; repeat it for several.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw error against time to train.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the table as Markdown, with links to the study files.")
    ] = None,
    force: ForceOption = False,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Worker processes. Changes no accuracy.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
    as_json: JsonOption = False,
) -> None:
    """Compare all methods of the paper and of its future work: search each, re-train it, test it once.

    Each row is a study of this repository: mnist-hpo report STUDY shows how it was found. What has been recorded is
    used again, so that the same command continues after an interrupt. The full comparison takes many hours; --quick
    takes some five minutes.

    Example: mnist-hpo paper --quick
    """
    # Set before JAX starts, so that the test figures are computed in the environment that training used.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from mnist_hpo.api.paper import FULL, QUICK, compare_methods
    from mnist_hpo.cli.display import make_display
    from mnist_hpo.cli.paper_table import comparison_markdown, comparison_picture, comparison_table
    from mnist_hpo.cli.schemas.paper import PaperOutput
    from mnist_hpo.runner import Home

    drawn = None if picture is None else OutputFile("--picture", picture, PNG_PICTURE, force)
    written = None if markdown is None else OutputFile("--markdown", markdown, MARKDOWN_TABLE, force)
    check_outputs([output for output in (drawn, written) if output], prints_json=as_json)
    rows = _chosen(QUICK if quick else FULL, method or [])
    log = console(to_stderr=True)
    found = compare_methods(
        rows,
        Home(storage, tracking_uri, FOLDER),
        search_display=make_display,
        display=TrainingProgress(),
        executor=executor,
        n_workers=workers,
        on_row=lambda row: log.print(f"{row.method}: {row.study}"),
    )
    if drawn:
        write_and_report(drawn, comparison_picture(found))
    if written:
        write_and_report(written, comparison_markdown(found).encode())
    if as_json:
        print_json(PaperOutput.model_validate({"rows": found}))
    else:
        console().print(comparison_table(found))


def _chosen(rows: tuple[Row, ...], methods: Sequence[str]) -> tuple[Row, ...]:
    from mnist_hpo.spec.errors import UserError, shown

    known = list(dict.fromkeys(row.method for row in rows))
    for method in methods:
        if method not in known:
            raise UserError(f"--method {shown(method)}: known are {', '.join(known)}")
    return tuple(row for row in rows if not methods or row.method in methods)
