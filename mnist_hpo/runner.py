"""Run one study: open its storage, its executor and its tracking, run the scheduler, and close all of them."""

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
from mnist_hpo.executors.job import DataRef
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR, executor_factory
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.home import Home
from mnist_hpo.initial_weights import with_initial_weights
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.scheduler import Interrupted, Observer, Scheduler, check_give_up
from mnist_hpo.search.make_policy import policy_class
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.init_from import source_context
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.records import TrialRecord, best_of, history_sha256, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.messages import Subject
from mnist_hpo.tracking.tracker import Tracker
from mnist_hpo.trial_plan import checkpoint_name, model_description, training_config, trial_job

_INTERRUPTED_END_S = 10.0
"""The longest that an interrupted run waits for MLflow. The same command continues the study and writes the rest."""


class Display(Observer, Protocol):
    """Shows a run to a person."""

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """Start with the trials that are already recorded."""
        ...

    def say(self, message: str) -> None:
        """Show a message."""
        ...

    def warn(self, message: str) -> None:
        """Show a warning."""
        ...

    def show_wait(self, message: str) -> None:
        """Show what the run is waiting for. Called several times a second."""
        ...


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A finished study."""

    study: Study
    trials: list[TrialRecord]
    """By number."""
    missing_in_mlflow: str | None
    """What is missing in MLflow, and why; None if nothing is."""

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best value of the first objective; None if no trial is complete."""
        return best_of(self.trials)

    @property
    def history_sha256(self) -> str:
        """SHA-256 of all results. Nothing that depends on time is part of it."""
        return history_sha256(self.trials)

    def __repr__(self) -> str:
        best = "none complete" if self.best is None else f"best #{self.best.number} {self.best.value:.4f}"
        text = f"StudyResult({self.study.name}: {len(self.trials)} trials, {best}, {self.history_sha256[:16]}…"
        return f"{text}, missing in MLflow: {self.missing_in_mlflow})" if self.missing_in_mlflow else f"{text})"


def run_study(
    file: StudyFile,
    home: Home,
    *,
    display: Display,
    executor: str = DEFAULT_EXECUTOR,
    n_workers: int | None = None,
    data_source: Path | None = None,
    give_up: Collection[int] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> StudyResult:
    """Start, continue or extend a study.

    Args:
        file: the study.
        home: where its record is kept.
        display: shows the run to a person.
        executor: the name of the executor that runs the trainings.
        n_workers: the number of its workers; by default the executor chooses.
        data_source: a folder with the dataset's files, for a dataset that is not prepared yet.
        give_up: trials to record as failed instead of training them: see `Scheduler`.
        should_stop: polled; True stops the run.

    Raises:
        Interrupted: `should_stop` returned True. Everything is closed, and the same call continues the study.
            KeyboardInterrupt ends a run in the same way.
        UserError: a problem that the user can fix; nothing recorded is lost.

    """
    study = file.study
    check_give_up(study, give_up)
    start_executor = executor_factory(executor)
    info = dataset_info(study.dataset)
    dataset = prepare(info, source=data_source, log=display.say)
    file = with_initial_weights(file, home, dataset.digest)
    study = file.study
    context = {**provenance(), **info.context(dataset.digest), **source_context(study.init_from)}
    # Locked before it is read: two coordinators must not create the same study.
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
        workers = start_executor(n_workers)
        try:
            recorded = storage.trials()
            display.begin(study, recorded, workers.n_workers)
            if study.init_from is not None:
                display.say(f"each trial starts from {study.init_from.source}")
            tracker = Tracker(projected(storage, study, home.tracking_uri), recorded, display.warn)
            data = DataRef(str(dataset.directory), study.split, info.n_classes)
            scheduler = Scheduler(
                study,
                storage,
                workers,
                data=data,
                checkpoints=home.checkpoints(storage),
                observers=[display, tracker],
                give_up=give_up,
                should_stop=should_stop,
            )
            try:
                scheduler.run()
                bundle = _best_bundle(study, storage, workers, data, home)
            except (Interrupted, KeyboardInterrupt):
                workers.close()
                deadline_s = time.monotonic() + _INTERRUPTED_END_S
                _end_tracking(tracker, display, None, lambda: time.monotonic() > deadline_s)
                raise
            except BaseException:
                workers.close()
                _end_tracking(tracker, display, None, should_stop)
                raise
            workers.close()
            missing = _end_tracking(tracker, display, bundle, should_stop)
            return StudyResult(study, storage.trials(), missing)
        finally:
            workers.close()
            storage.close()


def projected(storage: StudyStorage, study: Study, tracking_uri: str) -> Subject:
    """Return what the tracking needs of a study besides its trials."""
    return Subject(tracking_uri, study, storage.study_file, storage.uid, storage.context, storage.replaced_uids)


def _best_bundle(
    study: Study, storage: StudyStorage, executor: Executor, data: DataRef, home: Home
) -> tuple[int, Path] | None:
    """Write the best trial's model beside its checkpoint; train it again if the checkpoint is gone or damaged."""
    trials = storage.trials()
    best = best_of(trials)
    if best is None:
        return None
    checkpoints = home.checkpoints(storage)
    config = training_config(study, best.number, best.parameters)
    # A worker checks the checkpoint, and trains only if it is gone or damaged. The key differs from the search's, whose
    # last events may still arrive.
    job = replace(trial_job(best.number, config, data, len(best.epochs), checkpoints), key=f"best trial {best.number}")
    _check_same(best, run_jobs(executor, [job])[job.key])
    model = model_description(study, best.parameters)
    directory = home.best_bundle(storage, best.number)
    source = {
        "study": study.name,
        "trial": best.number,
        "valid_loss": best.value,
        "epoch": best.kept_epoch,
        "machine_dependent": is_machine_dependent(trials),
    }
    try:
        weights = checkpoints.load_kept_model(checkpoint_name(best.number))
        write_bundle(directory, model, weights, {**storage.context, **source})
    except OSError as error:
        raise UserError(
            f"{directory}: the best trial's model cannot be written: {error.strerror}; every trial is recorded, so the "
            "same command finishes the study once this is put right"
        ) from error
    return best.number, directory


def _check_same(best: TrialRecord, results: Sequence[EpochResult]) -> None:
    """Refuse a repeated training whose results differ from the record: its weights are not those of the best trial.

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
    """Wait until MLflow has the whole study; return what is missing."""

    def show(n_runs: int, n_trials: int) -> None:
        then = ", now the summary, the model and the plots" if n_runs == n_trials else ""
        display.show_wait(f"writing to MLflow: {n_runs} of {n_trials} runs written{then}")

    missing = tracker.close(bundle, should_stop=should_stop, show_progress=show)
    if missing:
        display.warn(f"MLflow does not hold all of the study: {missing}")
    return missing


__all__ = ["Display", "Home", "Interrupted", "StudyResult", "projected", "run_study"]
