"""The comparison of `mnist-hpo paper` as a table for the terminal, as Markdown and as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from mnist_hpo.champion.pictures import error_against_time

_COLUMNS = (
    "method",
    "split",
    "accuracy",
    "seeds",
    "macro F1",
    "train s",
    "predict µs",
    "parameters",
    "trials",
    "study",
)
_TEXT = ("method", "split", "study")

Row = Mapping[str, Any]


def comparison_table(rows: Sequence[Row]) -> Table:
    """Return the rows of `mnist-hpo paper --json` as a table for the terminal."""
    table = Table(title="test results; every choice was made on valid", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in _TEXT else "right")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def comparison_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table whose last column links to the study files."""
    lines = [_COLUMNS, ["---" if column in _TEXT else "---:" for column in _COLUMNS]]
    for row in rows:
        *cells, study = _cells(row)
        lines.append([*cells, f"[{study}]({row['study_file']})"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comparison_picture(rows: Sequence[Row]) -> bytes:
    """Draw test error against time to train, as a PNG picture."""
    methods = [row["method"] for row in rows]
    points = [
        (
            row["method"] if methods.count(row["method"]) == 1 else f"{row['method']} ({row['study']})",
            row["train_s"],
            1 - row["test_accuracy_mean"],
            row["test_accuracy_std"],
        )
        for row in rows
    ]
    buffer = io.BytesIO()
    error_against_time(points).savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _cells(row: Row) -> list[str]:
    return [
        row["method"],
        row["split"],
        f"{100 * row['test_accuracy_mean']:.2f} ± {100 * row['test_accuracy_std']:.2f} %",
        str(row["n_seeds"]),
        f"{row['macro_f1']:.4f}",
        f"{row['train_s']:.1f}",
        f"{row['predict_us']:.1f}",
        f"{row['n_parameters']:,}",
        str(row["n_trials"]),
        row["study"],
    ]
