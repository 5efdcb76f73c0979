"""`mnist-hpo retrain`: re-train a trial exactly, re-train it on train + valid, test it and register its model."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from mnist_hpo.api.studies import recorded_study
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    ExecutorOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    command_line,
    console,
    print_json,
)
from mnist_hpo.cli.training_progress import TrainingProgress
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR


def retrain(
    study: StudyArgument,
    trial: Annotated[int | None, typer.Option(min=0, help="The trial's number; by default the best trial.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings on train + valid, one per seed.")] = 3,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Worker processes. Changes no result.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
    as_json: JsonOption = False,
) -> int:
    """Re-train the best trial and evaluate it on the test split, which the search never saw.

    First train exactly as recorded, and report whether the learning curve is reproduced bit for bit. Then train on
    train + valid for the trial's best number of epochs, once per seed. Only then read the test split. The model of the
    first seed that did not diverge is registered in MLflow under the study's name; if the trial is the best one, the
    model gets the alias champion.

    Exit code 1: the curve was not reproduced, or every seed diverged, so that there is no model.

    Example: mnist-hpo retrain quickstart --seeds 10
    """
    record, file = recorded_study(storage, study)
    # Set before JAX starts, so that the test figures are computed in the environment that training used.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from mnist_hpo.api.retraining import retrain_recorded
    from mnist_hpo.cli.schemas.retrain import RetrainOutput
    from mnist_hpo.runner import Home
    from mnist_hpo.storage.records import machine_dependence

    home = Home(storage, tracking_uri, FOLDER)
    figures = retrain_recorded(
        record,
        file.study,
        home,
        number=trial,
        n_seeds=seeds,
        executor=executor,
        n_workers=workers,
        display=TrainingProgress(),
    )
    if as_json:
        print_json(RetrainOutput.model_validate(figures))
    else:
        _print(figures)
        if dependence := machine_dependence(record.trials()):
            print(dependence)
    return 0 if figures["reproduced"] == "exact" and figures["registered_seed"] is not None else 1


def _print(figures: dict[str, Any]) -> None:
    from mnist_hpo.cli.measures_table import measures_table

    out = console()
    out.print(f"reproduced: {figures['reproduced']}")
    n_seeds, n_diverged = figures["n_seeds"], figures["n_diverged"]
    if n_diverged:
        out.print(f"diverged:   {n_diverged} of {n_seeds} seeds, whose loss is not finite; they have no test figures")
    if figures["model"] is None:
        out.print("There is no model to test or to register. Re-train another trial: mnist-hpo retrain STUDY --trial N")
        out.print(f"report:  {figures['report']}  (learning_curves.png)")
        return
    title = f"{figures['study']}, trial #{figures['trial']}: test"
    out.print(measures_table(title, figures, n_seeds - n_diverged))
    out.print(f"report:  {figures['report']}  (misclassified.png, reliability.png, per_class.csv, …)")
    out.print(f"model:   {figures['model']}, in MLflow {_model_address(figures)}")
    out.print(f"browse:  {command_line('ui')}")


def _model_address(figures: dict[str, Any]) -> str:
    name, version, champion = (figures[key] for key in ("model_name", "model_version", "champion_version"))
    if version == champion:
        return f"models:/{name}@champion"
    others = "no version is @champion" if champion is None else f"@champion stays with version {champion}"
    return f"models:/{name}/{version} ({others}: trial {figures['trial']} is not the study's best)"
