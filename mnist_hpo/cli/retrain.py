"""`mnist-hpo retrain`: re-train a trial exactly, then on all but the test split, test it, register it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    JsonOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    champion_folder,
    command_line,
    console,
    print_json,
    recorded_study,
)
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.champion.retrain import Champion
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.records import TrialRecord
    from mnist_hpo.storage.study_storage import StudyStorage


def retrain(
    study: StudyArgument,
    trial: Annotated[int | None, typer.Option(min=0, help="The trial's number; the best one by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings on train + valid to test.")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Worker processes. Changes no result.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
    as_json: JsonOption = False,
) -> int:
    """Re-train the best trial and evaluate it on the test split, which the search never saw.

    First exactly as recorded, to say whether its curve comes out bit for bit (exit code 1 where it does not); then on
    train + valid for its best number of epochs, once a seed; only then the test split is read. The model of the first
    seed that did not diverge is registered in MLflow under the study's name, the best trial's with the alias champion.
    Exit code 1 also where every seed diverged: there is no model then.

    Example: mnist-hpo retrain quickstart --seeds 10
    """
    record, file = recorded_study(storage, study)
    # Before JAX starts here: the test figures are computed in the environment in which the model was trained.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from mnist_hpo.champion.retrain import choose_trial
    from mnist_hpo.cli.schemas.retrain import RetrainOutput
    from mnist_hpo.storage.lock import study_lock
    from mnist_hpo.storage.records import is_machine_dependent, machine_dependence
    from mnist_hpo.tracking.client import check_reachable

    # Held from the choice of the trial to the last write to MLflow: a search or another retrain would interfere.
    with study_lock(storage, record.name):
        trials = record.trials()
        chosen = choose_trial(trials, trial)
        check_reachable(tracking_uri)
        folder = champion_folder(record) / f"trial-{chosen.number:05d}"
        n_seeds_before = _n_seeds_tested(folder)
        if n_seeds_before > seeds:
            print(f"trial {chosen.number}: replaces a test with {n_seeds_before} seeds", file=sys.stderr)
        champion = _train(file.study, chosen, seeds, workers, folder, is_machine_dependent(trials))
        registered = _register(champion, record, tracking_uri)
    figures = {**champion.figures(), **registered, "report": str(champion.report)}
    figures["model"] = None if champion.bundle is None else str(champion.bundle)
    if as_json:
        print_json(RetrainOutput.model_validate(figures))
    else:
        _print(figures)
        if dependence := machine_dependence(trials):
            print(dependence)
    return 0 if champion.reproduced == "exact" and champion.measures else 1


def _n_seeds_tested(folder: Path) -> int:
    """The seeds of the test that lies in a re-trained trial's folder; 0 where none does that can be read."""
    from mnist_hpo.analysis.champion_files import read_champion_test

    try:
        test = read_champion_test(folder / "report")
    except UserError:
        return 0
    return 0 if test is None else test.n_seeds


def _train(
    study: Study, chosen: TrialRecord, n_seeds: int, n_workers: int | None, folder: Path, machine_dependent: bool
) -> Champion:
    """Re-train and test a trial; its folder is replaced when the new one is whole, with its report."""
    from mnist_hpo.bundle.replace import replacing
    from mnist_hpo.champion.register import write_report
    from mnist_hpo.champion.retrain import retrain as train_again
    from mnist_hpo.data.prepare import prepare
    from mnist_hpo.executors.local import LocalExecutor

    log = console(to_stderr=True)
    dataset = prepare(study.dataset, log=lambda message: log.print(message, soft_wrap=True))
    n_epochs = len(chosen.epochs) + n_seeds * (chosen.best_epoch or 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
    with _replaceable(folder), replacing(folder) as new:
        executor = LocalExecutor(n_workers)
        try:
            with Progress(*columns, console=log, transient=True) as progress:
                task = progress.add_task(f"re-training trial {chosen.number}", total=n_epochs)
                champion = train_again(
                    study,
                    chosen,
                    n_seeds=n_seeds,
                    machine_dependent=machine_dependent,
                    dataset=dataset,
                    executor=executor,
                    folder=new,
                    on_epoch=lambda _key, _result: progress.advance(task),
                )
        finally:
            executor.close()
        write_report(champion)
    return dataclasses.replace(champion, folder=folder)


@contextlib.contextmanager
def _replaceable(folder: Path) -> Generator[None]:
    try:
        yield
    except BrokenPipeError:  # The reader of our output has gone.
        raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}; what was there before is kept") from error


def _register(champion: Champion, record: StudyStorage, tracking_uri: str) -> dict[str, str | None]:
    from mnist_hpo.champion.register import register
    from mnist_hpo.runner import projected
    from mnist_hpo.spec.provenance import provenance
    from mnist_hpo.storage.records import best_of
    from mnist_hpo.tracking.client import told_clearly
    from mnist_hpo.tracking.projection import Projection

    projection = Projection(projected(record, champion.study, tracking_uri))
    try:
        with told_clearly(tracking_uri):
            trials = record.trials()
            projection.open(trials)
            best = best_of(trials)
            is_best = best is not None and best.number == champion.trial.number
            registered = register(champion, projection, provenance(), is_best=is_best)
            projection.finish(trials)
    except UserError as error:
        raise UserError(
            f"{error}\nThe champion is tested all the same, though not registered: {champion.report}"
        ) from error
    return registered


def _print(figures: dict[str, Any]) -> None:
    from mnist_hpo.analysis.words import mean_and_std

    out = console()
    out.print(f"reproduced: {figures['reproduced']}")
    n_seeds, n_diverged = figures["n_seeds"], figures["n_diverged"]
    if n_diverged:
        out.print(f"diverged:   {n_diverged} of {n_seeds} seeds, whose loss is not finite; they have no test figures")
    if figures["model"] is None:
        out.print("No model was left to test or to register. Re-train another trial: mnist-hpo retrain STUDY --trial N")
        out.print(f"report:  {figures['report']}  (learning_curves.png)")
        return
    table = Table(title=f"{figures['study']}, trial #{figures['trial']}: test", title_justify="left")
    table.add_column("measure")
    table.add_column(f"mean ± std over {n_seeds - n_diverged} seeds", justify="right")
    for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
        text = mean_and_std(figures[f"test_{name}_mean"], figures[f"test_{name}_std"], percent=True)
        table.add_row(name.replace("_", " "), text)
    table.add_row("log loss", mean_and_std(figures["test_log_loss_mean"], figures["test_log_loss_std"]))
    table.add_row("calibration error", mean_and_std(figures["test_ece_mean"], figures["test_ece_std"]))
    out.print(table)
    out.print(f"report:  {figures['report']}  (misclassified.png, reliability.png, per_class.csv, …)")
    out.print(f"model:   {figures['model']}, in MLflow {_model_address(figures)}")
    out.print(f"browse:  {command_line('ui')}")


def _model_address(figures: dict[str, Any]) -> str:
    name, version, champion = (figures[key] for key in ("model_name", "model_version", "champion_version"))
    if version == champion:
        return f"models:/{name}@champion"
    others = "no version is @champion" if champion is None else f"@champion stays with version {champion}"
    return f"models:/{name}/{version} ({others}: trial {figures['trial']} is not the study's best)"
