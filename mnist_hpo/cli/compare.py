"""`mnist-hpo compare`: studies or single trials side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    JsonOption,
    StorageOption,
    console,
    print_json,
)
from mnist_hpo.cli.output_file import CSV_TABLE, HTML_PAGE, ForceOption, OutputFile, check_outputs, write_and_report

if TYPE_CHECKING:
    from mnist_hpo.analysis.comparison import Compared, Comparison
    from mnist_hpo.cli.schemas.compare import CompareOutput


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Studies by name or file; with --runs: STUDY:NUMBER.")
    ],
    runs: Annotated[bool, typer.Option("--runs", help="Compare single trials, each named STUDY:NUMBER.")] = False,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="LOSS", help="Report the cost to reach this valid_loss; by default the worst of the best losses."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as CSV, one row each.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained page with tables and anytime curves.")
    ] = None,
    force: ForceOption = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """Compare studies: budget, cost, best trial, its test figures, and the cost to reach a given validation loss.

    Says so if they cannot be compared (different dataset, split or objective). Two champions that `mnist-hpo retrain`
    has tested are compared by McNemar's exact test on their predictions.

    Example: mnist-hpo compare quickstart my_study --html compared.html
    """
    from mnist_hpo.analysis.comparison import comparison_frame
    from mnist_hpo.api.compare import compare as compare_names

    table = None if csv is None else OutputFile("--csv", csv, CSV_TABLE, force)
    page = None if html is None else OutputFile("--html", html, HTML_PAGE, force)
    check_outputs([output for output in (table, page) if output], prints_json=as_json)
    comparison = compare_names(names, runs=runs, target=target, storage=storage)
    if table is not None:
        write_and_report(table, comparison_frame(comparison).to_csv(index=False).encode())
    if page is not None:
        from mnist_hpo.report.compare_page import comparison_page

        write_and_report(page, comparison_page(comparison).encode())
    if as_json:
        print_json(_output(comparison))
    elif csv is None and html is None:
        _print(comparison)


def _output(comparison: Comparison) -> CompareOutput:
    from mnist_hpo.cli.schemas.compare import CompareOutput

    fields = {**vars(comparison), "compared": [_compared(entry) for entry in comparison.compared]}
    return CompareOutput.model_validate(fields, from_attributes=True)


def _compared(entry: Compared) -> dict[str, Any]:
    tested = None
    if (test := entry.test) is not None:
        tested = {
            "trial": test.trial,
            "n_seeds": test.n_seeds,
            "n_diverged": test.n_diverged,
            "accuracy_mean": test.test_accuracy_mean,
            "accuracy_std": test.test_accuracy_std,
            "reproduced": test.reproduced,
        }
    return {**vars(entry), "test": tested}


def _print(comparison: Comparison) -> None:
    from mnist_hpo.report.comparison_rows import HYPERPARAMETERS, comparison_rows, paired_test_sentence

    out = console()
    if not comparison.comparable:
        out.print(Text("NOT COMPARABLE: " + "; ".join(comparison.why), style="bold yellow"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for entry in comparison.compared:
        table.add_column(entry.label, overflow="fold")
    for heading, rows in comparison_rows(comparison):
        differing = [(name, cells) for name, cells in rows if len(set(cells)) > 1]
        if heading == HYPERPARAMETERS:
            # Leave out the hyperparameters that all of them share.
            heading, rows = f"{HYPERPARAMETERS} that differ" if differing else "the same hyperparameters", differing
        table.add_row()
        table.add_row(Text(heading, style="bold"))
        for row in rows:
            table.add_row(f"  {row[0]}", *row[1], style="" if row in differing else "dim")
    out.print(table)
    out.print()
    for test in comparison.paired_tests:
        out.print(f"McNemar's exact test: {paired_test_sentence(test)}")
    for note in comparison.notes:
        out.print(f"note: {note}")
