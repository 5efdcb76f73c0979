"""`mnist-hpo ensemble`: combine the best trials of studies, test the ensemble and register its model."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from rich.table import Table

from mnist_hpo.api.studies import recorded_study
from mnist_hpo.bundle.combination import METHODS
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    ExecutorOption,
    JsonOption,
    StorageOption,
    TrackingOption,
    command_line,
    console,
    one_of,
    print_json,
)
from mnist_hpo.cli.training_progress import TrainingProgress
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR
from mnist_hpo.spec.errors import UserError, shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def ensemble(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY…", help="Names or files of recorded studies.")],
    method: Annotated[str, typer.Option(metavar="|".join(METHODS), help="How to combine the members.")] = "average",
    top: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="The best trials of each study; by default 5, or 1 to bag or boost."),
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Trainings of each trial with own seeds; by default 1, or 10 to bag or boost."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often to train the whole ensemble for the test.")
    ] = 1,
    name: Annotated[
        str | None, typer.Option(help="The registered model's name; by default STUDY-METHOD, of the first study.")
    ] = None,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Worker processes. Changes no result.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
    as_json: JsonOption = False,
) -> None:
    """Combine the best trials of one or several studies, and evaluate the ensemble on the test split.

    First train every member on train, and choose the weights on valid. Then train the members that have a weight on
    train + valid. Only then read the test split. The model is registered in MLflow with the alias champion.

    Methods: vote (the class that most members predict); average (of their probabilities); greedy (Caruana et al. 2004:
    add the member that lowers the log loss on valid most, again and again); stacking (a logistic regression on the
    members' log-probabilities); bagging (the average of trainings on bootstrap samples); boosting (SAMME: each training
    learns from what the ones before it get wrong).

    Example: mnist-hpo ensemble quickstart --top 5 --method greedy
    """
    chosen = one_of("--method", method, METHODS)
    resamples = chosen in ("bagging", "boosting")
    found = [recorded_study(storage, study) for study in dict.fromkeys(studies)]
    name = f"{found[0][0].name}-{chosen}" if name is None else name
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {shown(name)}: use letters, digits, '.', '_' and '-', at most 100")
    # Set before JAX starts, so that the test figures are computed in the environment that training used.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from mnist_hpo.api.ensembling import EnsembleRequest, ensemble_recorded
    from mnist_hpo.cli.schemas.ensemble import EnsembleOutput
    from mnist_hpo.runner import Home

    request = EnsembleRequest(
        name=name,
        method=chosen,
        top=top or (1 if resamples else 5),
        n_copies=copies or (10 if resamples else 1),
        n_seeds=seeds,
        executor=executor,
        n_workers=workers,
    )
    home = Home(storage, tracking_uri, FOLDER)
    recorded = [(record, file.study) for record, file in found]
    figures = ensemble_recorded(recorded, home, request, TrainingProgress())
    if as_json:
        print_json(EnsembleOutput.model_validate(figures))
    else:
        _print(figures)


def _print(figures: dict[str, Any]) -> None:
    from mnist_hpo.analysis.words import mean_and_std
    from mnist_hpo.cli.measures_table import measures_table

    out = console()
    members = Table(
        title=f"{figures['name']}: {len(figures['members'])} members, {figures['method']}", title_justify="left"
    )
    for column in ("member", "weight", "valid_loss", "valid accuracy"):
        members.add_column(column, justify="left" if column == "member" else "right")
    for member in figures["members"]:
        copy = f", copy {member['copy_number']}" if member["copy_number"] else ""
        members.add_row(
            f"{member['study']} #{member['trial']}{copy}",
            f"{member['weight']:.3f}",
            f"{member['valid_loss']:.4f}",
            f"{100 * member['valid_accuracy']:.2f} %",
        )
    members.add_section()
    members.add_row("ensemble", "", f"{figures['valid_loss']:.4f}", f"{100 * figures['valid_accuracy']:.2f} %")
    out.print(members)
    table = measures_table("test", figures, figures["n_seeds"])
    single = mean_and_std(figures["members_test_accuracy_mean"], figures["members_test_accuracy_std"], percent=True)
    table.add_row("accuracy of a member", single)
    out.print(table)
    out.print(f"report:  {figures['report']}  (members.csv, misclassified.png, …)")
    out.print(f"model:   {figures['model']}, in MLflow models:/{figures['model_name']}@champion")
    out.print(f"browse:  {command_line('ui')}")
