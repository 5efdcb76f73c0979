"""What tables and figures are made from, read from a storage and from the files of re-trained trials."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from mnist_hpo.analysis.champion_files import read_champion_test, read_guesses, trial_report
from mnist_hpo.analysis.comparison import Entry
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trials_table import trials_frame
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import parse_study
from mnist_hpo.spec.study import Study
from mnist_hpo.storage import DEFAULT_STORAGE
from mnist_hpo.storage.lock import is_held
from mnist_hpo.storage.records import best_of, machine_dependence
from mnist_hpo.storage.study_storage import StudyStorage


def load_trials(study: str, *, storage: str | None = None) -> pd.DataFrame:
    """Load a study's trials into a pandas DataFrame, one row a trial, by number.

    Columns, in this order:

    - `number` (Int64), counted from 0; `state` (categorical: complete, pruned, failed, running); `reason` (string) of
      a failure;
    - each searched hyperparameter by its name: float64, Int64, boolean, or categorical where its choices are texts;
    - `valid_loss` and `valid_accuracy` (float64, from 0 to 1) at the best epoch, `best_epoch` and `n_epochs` (Int64);
    - `seconds` and `compile_s` (float64): worker seconds of all its epochs, and of these in compiling;
    - `n_parameters` of the model and `train_flops` so far (Int64);
    - `started_at` and `finished_at` (timestamps in UTC).

    What is not there (the loss of a trial without an epoch, a hyperparameter that the trial does not have) is missing:
    NaN, NA or NaT.

    Args:
        study: the study's name.
        storage: the Optuna storage's URL; by default the environment's `MNIST_HPO_STORAGE`, else the one in ./mlruns.

    Raises:
        UserError: there is no such storage or study.

    Example:
        >>> trials = mnist_hpo.load_trials("quickstart")
        >>> trials[trials["state"] == "complete"].nsmallest(3, "valid_loss")

    """
    record = StudyStorage.load(storage or os.environ.get("MNIST_HPO_STORAGE") or DEFAULT_STORAGE, study)
    return trials_frame(_study(record), record.trials())


def read_view(record: StudyStorage) -> StudyView:
    """Read all that a storage holds of a study."""
    trials = tuple(record.trials())
    return StudyView(_study(record), record.study_file, record.context, trials, is_held(record.url, record.name))


def load_entry(storage_url: str, name: str, number: int | None, champions: Path) -> Entry:
    """Read a study, or the trial of a number, from a storage, to be compared.

    Args:
        storage_url: the storage's.
        name: the study's name.
        number: a trial's, or None for the whole study.
        champions: the folder under which `mnist-hpo retrain` writes.

    Raises:
        UserError: there is no such study or trial, or a file of its champion is damaged.

    """
    record = StudyStorage.load(storage_url, name)
    trials = record.trials()
    dependence = machine_dependence(trials)
    label = name
    if number is not None:
        label = f"{name}:{number}"
        trials = [trial for trial in trials if trial.number == number]
        if not trials:
            raise UserError(f"{label}: no trial {number} in the study {name!r}; see: mnist-hpo trials {name}")
    shown = best_of(trials) if number is None else trials[0]
    report = None if shown is None else trial_report(champions / record.folder_name, shown.number)
    return Entry(
        label,
        _study(record),
        tuple(trials),
        is_study=number is None,
        context=record.context,
        is_running=is_held(record.url, record.name),
        test=None if report is None else read_champion_test(report),
        guesses=None if report is None else read_guesses(report),
        machine_dependence=dependence,
    )


def _study(record: StudyStorage) -> Study:
    return parse_study(record.study_file, Path(f"{record.name}.yaml")).study
