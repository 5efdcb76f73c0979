"""One study from its file to a finished record: opens every room, runs the scheduler, closes them in any event."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.best_model import load_best_model
from mnist_hpo.executors.job import DataRef, Executor
from mnist_hpo.executors.local import LocalExecutor
from mnist_hpo.executors.single import run_jobs
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.scheduler import Interrupted, Observer, Scheduler, check_give_up
from mnist_hpo.search.make_policy import policy_class
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.records import TrialRecord, best_of, history_sha256, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.messages import Subject
from mnist_hpo.tracking.tracker import Tracker
from mnist_hpo.trial_plan import checkpoint_path, model_description, training_config, trial_job

_INTERRUPTED_END_S = 10.0
"""A run that is asked to stop waits no longer for MLflow. The same command continues the study and writes the rest."""


@dataclass(frozen=True)
class Home:
    """Where a user's state lies: the storage, the tracking, and the folder for everything else."""

    storage_url: str
    tracking_uri: str
    folder: Path

    def checkpoints(self, storage: StudyStorage) -> Path:
        """The folder of a study's checkpoints; another study of the same name has another."""
        return self.folder / "checkpoints" / storage.folder_name

    def best_bundle(self, storage: StudyStorage, number: int) -> Path:
        """Where the model of a study's best trial is written."""
        return self.checkpoints(storage) / f"best-{number:05d}"


class Display(Observer, Protocol):
    """Shows a run to a person."""

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """The study is open; so much of it is recorded already."""
        ...

    def say(self, message: str) -> None:
        """Tell something once."""
        ...

    def warn(self, message: str) -> None:
        """Tell something that the person may want to see to."""
        ...

    def show_wait(self, message: str) -> None:
        """Show what the run is waiting for; called several times a second."""
        ...


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A study whose budget is used up."""

    study: Study
    trials: list[TrialRecord]
    """By number."""
    missing_in_mlflow: str | None
    """What MLflow does not hold of the study, and why; None if it holds all of it."""

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best value of the first objective; None where no trial is complete."""
        return best_of(self.trials)

    @property
    def history_sha256(self) -> str:
        """SHA-256 of everything that was computed, and of nothing that depends on time."""
        return history_sha256(self.trials)

    def __repr__(self) -> str:
        best = "none complete" if self.best is None else f"best #{self.best.number} {self.best.value:.4f}"
        told = f"StudyResult({self.study.name}: {len(self.trials)} trials, {best}, {self.history_sha256[:16]}…"
        return f"{told}, missing in MLflow: {self.missing_in_mlflow})" if self.missing_in_mlflow else f"{told})"


def run_study(
    file: StudyFile,
    home: Home,
    *,
    display: Display,
    n_workers: int | None = None,
    data_source: Path | None = None,
    give_up: Collection[int] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> StudyResult:
    """Start, continue or extend a study.

    Trials in `give_up` are recorded as failed instead of being trained: see `Scheduler`.

    Raises:
        Interrupted: `should_stop` said so; everything is closed and the same call continues. KeyboardInterrupt ends a
            run in the same way.
        UserError: something that the user can put right; nothing recorded is lost.

    """
    study = file.study
    check_give_up(study, give_up)
    info = dataset_info(study.dataset)
    dataset = prepare(info, source=data_source, log=display.say)
    context = {**provenance(), **info.context()}
    # Locked before it is looked at: two coordinators must not make the same study.
    with study_lock(home.storage_url, study.name):
        storage = StudyStorage.create(
            home.storage_url,
            study,
            study_file=file.text,
            context=context,
            extends_in_place=policy_class(study).extends_in_place,
        )
        for name in storage.replaced_folder_names:
            shutil.rmtree(home.folder / "checkpoints" / name, ignore_errors=True)
        executor = LocalExecutor(n_workers)
        try:
            recorded = storage.trials()
            display.begin(study, recorded, executor.n_workers)
            tracker = Tracker(projected(storage, study, home.tracking_uri), recorded, display.warn)
            data = DataRef(str(dataset.directory), study.split, info.n_classes)
            scheduler = Scheduler(
                study,
                storage,
                executor,
                data=data,
                checkpoints=home.checkpoints(storage),
                observers=[display, tracker],
                give_up=give_up,
                should_stop=should_stop,
            )
            try:
                scheduler.run()
                bundle = _best_bundle(study, storage, executor, data, home)
            except (Interrupted, KeyboardInterrupt):
                executor.close()
                deadline_s = time.monotonic() + _INTERRUPTED_END_S
                _end_tracking(tracker, display, None, lambda: time.monotonic() > deadline_s)
                raise
            except BaseException:
                executor.close()
                _end_tracking(tracker, display, None, should_stop)
                raise
            executor.close()
            missing = _end_tracking(tracker, display, bundle, should_stop)
            return StudyResult(study, storage.trials(), missing)
        finally:
            executor.close()
            storage.close()


def projected(storage: StudyStorage, study: Study, tracking_uri: str) -> Subject:
    """What of a study MLflow is told beside its trials."""
    return Subject(tracking_uri, study, storage.study_file, storage.uid, storage.context, storage.replaced_uids)


def _best_bundle(
    study: Study, storage: StudyStorage, executor: Executor, data: DataRef, home: Home
) -> tuple[int, Path] | None:
    """Write the best trial's model beside its checkpoint; train it again where that is gone or damaged."""
    trials = storage.trials()
    best = best_of(trials)
    if best is None:
        return None
    checkpoints = home.checkpoints(storage)
    path = checkpoint_path(checkpoints, best.number)
    config = training_config(study, best.number, best.parameters)
    # A worker checks the checkpoint, and trains only where it is gone or damaged. The key is another one than the
    # search's, whose last events may still be on their way.
    job = replace(trial_job(best.number, config, data, len(best.epochs), checkpoints), key=f"best trial {best.number}")
    _check_same(best, run_jobs(executor, [job])[job.key])
    model = model_description(study, best.parameters)
    directory = home.best_bundle(storage, best.number)
    source = {
        "study": study.name,
        "trial": best.number,
        "valid_loss": best.value,
        "epoch": best.best_epoch,
        "machine_dependent": is_machine_dependent(trials),
    }
    try:
        write_bundle(directory, model, load_best_model(path), {**storage.context, **source})
    except OSError as error:
        raise UserError(
            f"{directory}: the best trial's model cannot be written: {error.strerror}; every trial is recorded, so the "
            "same command finishes the study once this is put right"
        ) from error
    return best.number, directory


def _check_same(best: TrialRecord, results: Sequence[EpochResult]) -> None:
    """Refuse a training whose results are not the recorded ones: its weights are not the best trial's.

    Raises:
        UserError: an epoch differs or is missing.

    """
    by_epoch = {result.epoch: result for result in results}
    for epoch, recorded in sorted(best.epochs.items()):
        found = by_epoch.get(epoch)
        if found is None or not found.same_numbers(recorded):
            again = "is missing" if found is None else f"has valid_loss {found.valid_loss}"
            raise UserError(
                f"trial {best.number}, the best: epoch {epoch} {again} where the record has {recorded.valid_loss}, so "
                "no model is written; the record is unchanged. Run the same command on the kind of machine and the "
                "versions that the study was recorded with"
            )


def _end_tracking(
    tracker: Tracker, display: Display, bundle: tuple[int, Path] | None, should_stop: Callable[[], bool]
) -> str | None:
    """Wait until MLflow holds all of the study; return what it does not hold."""

    def show(n_runs: int, n_trials: int) -> None:
        then = ", now the summary, the model and the plots" if n_runs == n_trials else ""
        display.show_wait(f"writing to MLflow: {n_runs} of {n_trials} runs written{then}")

    missing = tracker.close(bundle, should_stop=should_stop, show_progress=show)
    if missing:
        display.warn(f"MLflow does not hold all of the study: {missing}")
    return missing


__all__ = ["Display", "Home", "Interrupted", "StudyResult", "projected", "run_study"]
