"""Read the input of tables and figures from a storage and from the files of re-trained trials."""

from __future__ import annotations

from pathlib import Path

from mnist_hpo.analysis.champion_files import read_champion_test, read_predictions, trial_report
from mnist_hpo.analysis.comparison import Entry
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.lock import is_held
from mnist_hpo.storage.records import best_of, machine_dependence
from mnist_hpo.storage.study_storage import StudyStorage


def read_view(record: StudyStorage) -> StudyView:
    """Read everything that a storage contains about a study."""
    trials = tuple(record.trials())
    study = record.read_study_file().study
    return StudyView(study, record.study_file, record.context, trials, is_held(record.url, record.name))


def load_entry(storage_url: str, name: str, number: int | None, champions: Path) -> Entry:
    """Read a study or one of its trials from a storage, for a comparison.

    Args:
        storage_url: the storage's URL.
        name: the study's name.
        number: the number of a trial, or None for the whole study.
        champions: the folder in which `mnist-hpo retrain` writes.

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
        record.read_study_file().study,
        tuple(trials),
        is_study=number is None,
        context=record.context,
        is_running=is_held(record.url, record.name),
        test=None if report is None else read_champion_test(report),
        predictions=None if report is None else read_predictions(report),
        machine_dependence=dependence,
    )
