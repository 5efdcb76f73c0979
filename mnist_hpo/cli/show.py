"""`mnist-hpo status`, `trials` and `best`: what the storage holds of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    JsonOption,
    StorageOption,
    StudyArgument,
    console,
    print_json,
    recorded_study,
)
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.records import TrialRecord


def status(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """Say how far a study is, its best trial, and the hash of its history.

    history_sha256 covers what was computed and nothing that depends on time: two runs of one study file agree on it.

    Example: mnist-hpo status quickstart --json
    """
    record, file = recorded_study(storage, study)
    summary = status_of(file.study, record.trials(), storage)
    if as_json:
        print_json(summary)
    else:
        console().print(status_table(summary))


def trials(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """List a study's trials: parameters, state and validation losses.

    Example: mnist-hpo trials quickstart
    """
    record, file = recorded_study(storage, study)
    rows = [trial_fields(trial) for trial in record.trials()]
    if as_json:
        print_json(rows)
    else:
        console().print(_trials_table(rows, list(file.study.space)))


def best(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """Show a study's best trial in full.

    Example: mnist-hpo best quickstart
    """
    from mnist_hpo.storage.records import best_of
    from mnist_hpo.training.hyperparameters import complete

    record, file = recorded_study(storage, study)
    found = best_of(record.trials())
    if found is None:
        raise UserError(f"no trial of {record.name!r} is complete yet; see: mnist-hpo status {record.name}")
    parameters = complete(file.study.model, {**file.study.fixed, **found.parameters})
    fields = {
        **trial_fields(found),
        "params": parameters,
        "best_epoch": found.best_epoch,
        "valid_accuracy": {epoch: result.valid_accuracy for epoch, result in found.epochs.items()},
    }
    if as_json:
        print_json(fields)
        return
    table = Table(title=f"{record.name}: best trial #{found.number}", show_header=False, title_justify="left")
    for name, value in parameters.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    at = found.epochs[found.best_epoch or 1]
    table.add_section()
    table.add_row("valid_loss", f"{found.value:.5f} at epoch {found.best_epoch} of {len(found.epochs)}")
    table.add_row("valid_accuracy", f"{100 * (at.valid_accuracy or 0):.2f} %")
    console().print(table)


def status_of(study: Study, trials: Sequence[TrialRecord], storage_url: str) -> dict[str, Any]:
    """A study's state as `status --json` prints it."""
    from mnist_hpo.storage.records import best_of, count_states, history_sha256

    found = best_of(trials)
    results = [result for trial in trials for result in trial.epochs.values()]
    counts = count_states(trials)
    n_finished = len(trials) - counts["running"]
    return {
        "study": study.name,
        "description": study.description,
        "state": "complete" if n_finished >= study.budget.n_trials else "incomplete",
        "budget": {"n_trials": study.budget.n_trials, "max_epochs": study.budget.max_epochs},
        "n_trials": counts,
        "best": found and {"number": found.number, "value": found.value, "params": dict(found.parameters)},
        "history_sha256": history_sha256(trials),
        "n_epochs": len(results),
        "worker_s": {
            "total": round(sum(result.total_s for result in results), 3),
            "train": round(sum(result.train_s for result in results), 3),
            "compile": round(sum(result.compile_s for result in results), 3),
        },
        "storage": storage_url,
    }


def status_table(summary: dict[str, Any]) -> Table:
    """The same for people."""
    counts = summary["n_trials"]
    table = Table(title=f"study {summary['study']}", show_header=False, title_justify="left")
    table.add_row(
        "state", f"{summary['state']}: {sum(counts.values())} of {summary['budget']['n_trials']} trials begun"
    )
    table.add_row("trials", ", ".join(f"{n} {state}" for state, n in counts.items()))
    found = summary["best"]
    if found:
        table.add_row("best", f"#{found['number']}, valid_loss {found['value']:.5f}")
        for name, value in found["params"].items():
            table.add_row(f"  {name}", f"{value:.6g}" if isinstance(value, float) else str(value))
    seconds = summary["worker_s"]
    compile_share = seconds["compile"] / seconds["total"] if seconds["total"] else 0.0
    table.add_row(
        "work", f"{summary['n_epochs']} epochs, {seconds['total']:.0f} worker seconds ({compile_share:.1%} compiling)"
    )
    table.add_row("history_sha256", Text(summary["history_sha256"], overflow="fold"))
    return table


def trial_fields(trial: TrialRecord) -> dict[str, Any]:
    """A trial as `trials --json` prints it."""
    return {
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.parameters),
        "value": trial.value,
        "valid_loss": trial.valid_loss,
        "reason": trial.reason,
    }


_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


def _trials_table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("#", "state", "valid_loss", "epochs", *names):
        # Names wrap at their words, so that the numbers keep their digits on a narrow terminal.
        table.add_column(column.replace("_", " "), justify="left" if column == "state" else "right", min_width=5)
    for row in rows:
        losses = row["valid_loss"].values()
        lowest = f"{min(losses):.5f}" if losses else "–"
        values = [row["params"].get(name) for name in names]
        shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
        state = f"[{_STYLES[row['state']]}]{row['state']}[/]" + (f" ({row['reason']})" if row["reason"] else "")
        table.add_row(str(row["number"]), state, lowest, str(len(losses)), *shown)
    return table
