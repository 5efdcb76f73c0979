"""`mnist-hpo status` and `best`: the recorded state of a study and its best trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

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
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.cli.schemas.study import StatusOutput
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.records import TrialRecord


def status(
    study: StudyArgument,
    watching: Annotated[
        bool, typer.Option("--watch", help="Refresh every second until the study is complete or Ctrl-C.")
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """Show a study's progress, its best trial and the hash of its history.

    history_sha256 covers all results and nothing that depends on time: two runs of one study file give the same hash.

    Example: mnist-hpo status quickstart --watch
    """
    if watching and as_json:
        raise UserError("--watch and --json cannot be combined: leave out one of them")
    record, file = recorded_study(storage, study)
    if watching:
        from mnist_hpo.cli.watch import watch

        trials = watch(record, file.study, console())
    else:
        trials = record.trials()
    from mnist_hpo.storage.lock import is_held

    summary = status_of(file.study, trials, storage, is_running=is_held(record.url, record.name))
    if as_json:
        print_json(summary)
    else:
        console().print(status_table(summary))


def best(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """Show all about a study's best trial; with several objectives, show the Pareto front too.

    With several objectives, the best trial is the best by the first objective.

    Example: mnist-hpo best quickstart
    """
    from mnist_hpo.analysis.trial_figures import pareto_front
    from mnist_hpo.cli.schemas.trial import BestOutput
    from mnist_hpo.cli.trials import trial_output, values_by_metric
    from mnist_hpo.storage.records import best_of, is_machine_dependent, machine_dependence
    from mnist_hpo.trial_plan import all_parameters

    record, file = recorded_study(storage, study)
    trials = record.trials()
    found = best_of(trials)
    if found is None:
        raise UserError(f"no trial of {record.name!r} is complete yet; see: mnist-hpo status {record.name}")
    parameters = all_parameters(file.study, found.parameters)
    more = {
        "params": parameters,
        "valid_accuracy": {epoch: result.valid_accuracy for epoch, result in sorted(found.epochs.items())},
        "pareto_front": [
            {"number": trial.number, "values": values_by_metric(file.study, trial)} for trial in pareto_front(trials)
        ],
        "machine_dependent": is_machine_dependent(trials),
    }
    in_full = BestOutput.model_validate(trial_output(file.study, found).model_dump() | more)
    if as_json:
        print_json(in_full)
        return
    table = Table(title=f"{record.name}: best trial #{found.number}", show_header=False, title_justify="left")
    chosen = [name for name in parameters if name in found.parameters or name in file.study.fixed]
    for name in chosen:
        value = parameters[name]
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    if len(chosen) < len(parameters):
        table.add_row("at its default", f"each of the {len(parameters) - len(chosen)} others (--json lists them)")
    table.add_section()
    table.add_row("valid_loss", f"{in_full.best_valid_loss:.5f} at epoch {found.kept_epoch} of {len(found.epochs)}")
    table.add_row("valid_accuracy", f"{100 * (in_full.best_valid_accuracy or 0):.2f} %")
    table.add_row("n_parameters", f"{in_full.n_parameters:,}")
    if warning := machine_dependence(trials):
        table.caption, table.caption_justify = warning, "left"
    console().print(table)
    if len(file.study.objectives) > 1:
        console().print(_front_table(file.study, pareto_front(trials)))


def _front_table(study: Study, front: Sequence[TrialRecord]) -> Table:
    """Return the Pareto front as a table."""
    from mnist_hpo.cli.display import describe

    title = f"Pareto front: {len(front)} trials that no other trial dominates"
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    table.add_column("trial", justify="right")
    for objective in study.objectives:
        table.add_column(objective.metric, justify="right")
    table.add_column("hyperparameters", overflow="fold")
    for trial in front:
        values = [f"{value:,.0f}" if value.is_integer() else f"{value:.5f}" for value in trial.values]
        table.add_row(f"#{trial.number}", *values, describe(trial.parameters))
    return table


def status_of(study: Study, trials: Sequence[TrialRecord], storage_url: str, *, is_running: bool) -> StatusOutput:
    """Return a study's state as `status` prints it."""
    from mnist_hpo.analysis.study_figures import study_figures
    from mnist_hpo.analysis.trial_figures import objective_value
    from mnist_hpo.cli.schemas.study import BestTrial, StateCounts, StatusOutput, TrialBudget, WorkerSeconds
    from mnist_hpo.storage.records import best_of, history_sha256, is_machine_dependent

    found, figures = best_of(trials), study_figures(study, trials)
    best = None
    if found is not None:
        metric, value = study.objectives[0].metric, objective_value(found)
        best = BestTrial(number=found.number, metric=metric, value=value, params=dict(found.parameters))
    return StatusOutput(
        study=study.name,
        description=study.description,
        state="complete" if figures.is_complete else "incomplete",
        is_running=is_running,
        budget=TrialBudget(n_trials=study.budget.n_trials, max_epochs=study.budget.max_epochs),
        n_trials=StateCounts(**figures.n_trials),
        best=best,
        machine_dependent=is_machine_dependent(trials),
        history_sha256=history_sha256(trials),
        n_epochs=figures.n_epochs,
        worker_s=WorkerSeconds(
            total=round(figures.worker_s, 3),
            train=round(figures.train_s, 3),
            compile=round(figures.compile_s, 3),
        ),
        storage=storage_url,
    )


def status_table(summary: StatusOutput) -> Table:
    """Return a study's state as a table for human readers."""
    from mnist_hpo.storage.records import state_name

    counts = summary.n_trials.by_state()
    table = Table(title=f"study {summary.study}", show_header=False, title_justify="left")
    so_far = "ended" if summary.state == "complete" else "started"
    table.add_row("state", f"{summary.state}: {sum(counts.values())} of {summary.budget.n_trials} trials {so_far}")
    table.add_row(
        "trials", ", ".join(f"{n} {state_name(state, is_running=summary.is_running)}" for state, n in counts.items())
    )
    if summary.machine_dependent:
        table.add_row("machine", "results depend on the machine: it could not train a trial, which was given up")
    if summary.best:
        table.add_row("best", f"#{summary.best.number}, {summary.best.metric} {summary.best.value:.5f}")
        for name, value in summary.best.params.items():
            table.add_row(f"  {name}", f"{value:.6g}" if isinstance(value, float) else str(value))
    total_s = summary.worker_s.total
    compile_share = summary.worker_s.compile / total_s if total_s else 0.0
    table.add_row("work", f"{summary.n_epochs} epochs, {total_s:.0f} worker seconds ({compile_share:.1%} compiling)")
    table.add_row("history_sha256", Text(summary.history_sha256, overflow="fold"))
    return table
