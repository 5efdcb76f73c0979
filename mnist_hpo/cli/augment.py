"""`mnist-hpo augment`: a picture of the training images as a study's trainings change them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_hpo.api.studies import checked_study, is_file, recorded_study
from mnist_hpo.cli.common import DEFAULT_STORAGE, StorageOption, console
from mnist_hpo.cli.output_file import PNG_PICTURE, ForceOption, OutputFile
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.api.augmentation import Strengths
    from mnist_hpo.spec.study import Study


def augment(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a recorded study.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The PNG; by default ./STUDY-augmented.png; - for stdout."),
    ] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Draw with the strengths of this recorded trial.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Chooses the digits and the random changes.")] = 0,
    force: ForceOption = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Draw training digits as a study's training steps change them: see whether a strength is too weak or too strong.

    Each row is a digit: first the original, then changed copies as eight steps of a training would see them. The
    changes are those of the hyperparameters rotation, translation, scaling, shear, elastic, erasing, mixup,
    input_noise and input_dropout. If the study searches some of them, there are three grids: the weakest, the middle
    and the strongest of the searched ranges. A good strongest grid is one in which you can still read every digit.

    A study file need not have been run. --trial N needs a recorded study.

    Example: mnist-hpo augment studies/mlp_best_augmented.yaml --out grid.png
    """
    if out is not None:
        OutputFile("--out", out, PNG_PICTURE, force).check()
    found, strengths = _strengths(study, trial, storage)
    picture = OutputFile("--out", out or Path(f"{found.name}-augmented.png"), PNG_PICTURE, force)
    picture.check()
    # Set before JAX starts, so that the images are those that the workers train on.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from mnist_hpo.api.augmentation import augmented
    from mnist_hpo.api.augmentation_picture import augmentation_picture

    log = console(to_stderr=True)
    with log.status("augment: changing digits"):
        blocks = augmented(found, strengths, seed=seed, log=lambda message: log.print(message, soft_wrap=True))
        title = f"{found.name}: training digits, left of the red line, and changed copies of them"
        content = augmentation_picture(blocks, title)
    picture.write(content)
    if not picture.is_stream:
        out_console = console()
        for block in blocks:
            out_console.print(f"{block.strengths.title}: {block.strengths.text}", soft_wrap=True)
        out_console.print(f"augment: {picture.path} ({len(content) / 1e3:.0f} kB)", soft_wrap=True)


def _strengths(name: str, number: int | None, storage: str) -> tuple[Study, list[Strengths]]:
    from mnist_hpo.api.augmentation import strengths_of, strengths_of_trial

    if number is None:
        study = checked_study(name).study if is_file(name) else recorded_study(storage, name)[1].study
        return study, strengths_of(study)
    record, file = recorded_study(storage, name)
    trials = record.trials()
    chosen = next((trial for trial in trials if trial.number == number), None)
    if chosen is None:
        raise UserError(f"no trial {number}; the study has {len(trials)} trials, counted from 0")
    return file.study, strengths_of_trial(file.study, chosen)
