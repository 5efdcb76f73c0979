"""`mnist-hpo trials`: a study's trials as a table, on the terminal or in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnist_hpo.api.studies import recorded_study
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    JsonOption,
    StorageOption,
    StudyArgument,
    console,
    print_json,
)
from mnist_hpo.cli.output_file import (
    CSV_TABLE,
    PARQUET_TABLE,
    ForceOption,
    OutputFile,
    check_outputs,
    write_and_report,
)
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from mnist_hpo.cli.schemas.trial import TrialOutput
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.records import TrialRecord

_STYLES = {
    "complete": "green",
    "pruned": "yellow",
    "failed": "red",
    "running": "cyan",
    "paused": "blue",
    "interrupted": "magenta",
}
_BY_IMPORTANCE = ("n_epochs", "seconds", "valid_accuracy", "n_parameters", "best_epoch", "train_flops", "compile_s")
"""Optional columns beside number, state, hyperparameters and valid_loss, most important first."""


def trials(
    study: StudyArgument,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort by one of the columns above; missing values come last.")
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Sort in descending order.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="One of the columns above and a value: 'learning_rate<0.01'. Repeat it; all conditions must hold.",
        ),
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="complete, pruned, failed, running or paused; repeat it for several.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N; by valid_loss without --sort.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as CSV.")] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as Parquet, with types.")
    ] = None,
    force: ForceOption = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """List a study's trials: hyperparameters, state, best validation figures, epochs, seconds, model size, FLOPs.

    --json adds each trial's learning curve and leaves out what depends on time: two runs of a study print the same.

    Columns: number, state, reason, each searched hyperparameter, valid_loss, valid_accuracy, best_epoch, n_epochs,
    seconds, compile_s, n_parameters, train_flops, started_at, finished_at. The terminal shows those that fit; the CSV
    file has all. In a notebook, mnist_hpo.load_trials("quickstart") returns the same table.

    Example: mnist-hpo trials quickstart --where 'learning_rate<0.002' --sort valid_accuracy --descending
    """
    from mnist_hpo.analysis.trials_query import choose
    from mnist_hpo.analysis.trials_table import trials_frame
    from mnist_hpo.cli.schemas.trial import TrialsOutput

    kinds = (("--csv", csv, CSV_TABLE), ("--parquet", parquet, PARQUET_TABLE))
    outputs = [OutputFile(option, path, kind, force) for option, path, kind in kinds if path is not None]
    check_outputs(outputs, prints_json=as_json)
    record, file = recorded_study(storage, study)
    records = record.trials()
    frame = trials_frame(file.study, records)
    chosen = choose(frame, states=_states(state or []), where=where or [], sort=sort, descending=descending, top=top)
    for output in outputs:
        text = chosen.to_csv(index=False).encode() if output.kind is CSV_TABLE else chosen.to_parquet(index=False)
        write_and_report(output, text)
    if chosen.empty:
        print("no trial matches", file=sys.stderr)
    if as_json:
        print_json(TrialsOutput([trial_output(file.study, records[position]) for position in chosen.index]))
    elif not outputs and not chosen.empty:
        from mnist_hpo.storage.lock import is_held

        out = console()
        named = [text for text in (sort, *(where or [])) if text]
        is_running = is_held(record.url, record.name)
        table, width, left_out = _widest_table(chosen, list(file.study.space), named, out.width, is_running=is_running)
        # On a terminal that is too narrow for the table, lines wrap rather than cut a number.
        out.width = width
        out.print(table)
        if left_out:
            message = f"too narrow for {', '.join(left_out)}: widen the terminal, or write all columns with --csv FILE"
            print(message, file=sys.stderr)


def trial_output(study: Study, trial: TrialRecord) -> TrialOutput:
    """Return a trial's results as `trials` prints them, without what depends on time."""
    from mnist_hpo.analysis.trial_figures import trial_figures
    from mnist_hpo.cli.schemas.trial import TrialOutput

    figures = trial_figures(study, trial)
    return TrialOutput(
        number=trial.number,
        state=trial.state,
        reason=trial.reason,
        given_up=trial.was_given_up,
        params=dict(trial.parameters),
        value=trial.value,
        values=values_by_metric(study, trial),
        valid_loss=trial.valid_loss,
        best_valid_loss=figures.best_valid_loss,
        best_valid_accuracy=figures.best_valid_accuracy,
        best_epoch=figures.best_epoch,
        n_epochs=figures.n_epochs,
        n_parameters=figures.n_parameters,
        train_flops=figures.train_flops,
    )


def values_by_metric(study: Study, trial: TrialRecord) -> dict[str, float]:
    """Return a complete trial's objectives by metric."""
    return dict(zip((objective.metric for objective in study.objectives), trial.values, strict=False))


def _states(names: Sequence[str]) -> list[Any]:
    from mnist_hpo.analysis.trials_table import STATES
    from mnist_hpo.spec.reader import nearest

    for name in names:
        if name not in STATES:
            raise UserError(f"--state {name!r}: no such state{nearest(name, STATES)}; there are {', '.join(STATES)}")
    return list(names)


def _widest_table(
    frame: pd.DataFrame, parameters: Sequence[str], named: Sequence[str], width: int, *, is_running: bool
) -> tuple[Table, int, list[str]]:
    """Return a table with as many columns as fit. Columns that --sort or --where names are always included.

    Returns:
        the table, its width in characters, and the hyperparameters that are left out.

    """
    droppable = [*(name for name in reversed(_BY_IMPORTANCE)), *reversed(parameters)]
    droppable = [name for name in droppable if not any(name in text for text in named)]
    for n_dropped in range(len(droppable) + 1):
        dropped = droppable[:n_dropped]
        columns = _columns(frame, parameters, set(dropped), is_running=is_running)
        left_out = [name for name in parameters if name in dropped]
        all_optional_dropped = n_dropped == len(droppable) or droppable[n_dropped] in parameters
        for wrapped, padding in ((False, 2), (True, 2), *([(True, 1)] if all_optional_dropped else [])):
            needed = sum(column.width(wrapped) for column in columns) + padding * (len(columns) - 1)
            if needed <= width or (n_dropped == len(droppable) and padding == 1):
                return _table(columns, wrapped=wrapped, padding=padding), max(needed, width), left_out
    raise AssertionError("the last table is returned whether it fits or not")


@dataclass(frozen=True)
class _Column:
    name: str
    header: str
    cells: list[str]

    def width(self, wrapped: bool) -> int:
        """Return the width in characters. Headers and states wrap between words; numbers never wrap."""
        texts = [self.header, *self.cells]
        if wrapped:
            texts = self.header.split() + (" ".join(self.cells).split() if self.name == "state" else self.cells)
        return max(map(len, texts))


def _columns(frame: pd.DataFrame, parameters: Sequence[str], dropped: set[str], *, is_running: bool) -> list[_Column]:
    names = ["number", "state", *parameters, "valid_loss", "valid_accuracy", "best_epoch", "n_epochs"]
    names += ["seconds", "compile_s", "n_parameters", "train_flops"]
    rows = frame.to_dict("records")
    return [
        _Column(name, name.replace("_", " "), [_cell(row, name, is_running=is_running) for row in rows])
        for name in names
        if name not in dropped
    ]


def _table(columns: Sequence[_Column], *, wrapped: bool, padding: int) -> Table:
    table = Table(box=None, padding=(0, padding, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        justify = "left" if column.name == "state" else "right"
        table.add_column(column.header, justify=justify, width=column.width(wrapped), min_width=column.width(wrapped))
    for cells in zip(*(column.cells for column in columns), strict=True):
        style = next((style for state, style in _STYLES.items() if cells[1].startswith(state)), "")
        table.add_row(cells[0], Text(cells[1], style), *cells[2:])
    return table


def _cell(row: Any, name: str, *, is_running: bool) -> str:
    import pandas as pd

    from mnist_hpo.storage.records import state_name

    value = row[name]
    if name == "state":
        reason = "" if pd.isna(row["reason"]) else f" ({row['reason']})"
        return f"{state_name(value, is_running=is_running)}{reason}"
    if pd.isna(value):
        return "–"
    match name:
        case "valid_loss":
            return f"{value:.5f}"
        case "valid_accuracy":
            return f"{100 * value:.2f} %"
        case "seconds" | "compile_s":
            return f"{value:.1f}"
        case "n_parameters":
            return f"{value:,}"
        case "train_flops":
            return f"{value:.2e}"
        case _:
            return f"{value:.3g}" if isinstance(value, float) else str(value)
