"""One study from its file to a finished record: opens every room, runs the scheduler, closes them in any event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import DATASETS
from mnist_hpo.executors.best_weights import load_best_parameters
from mnist_hpo.executors.job import DataRef, Executor
from mnist_hpo.executors.local import LocalExecutor
from mnist_hpo.executors.single import run_jobs
from mnist_hpo.scheduler import (
    Interrupted,
    Observer,
    Scheduler,
    check_give_up,
    checkpoint_path,
    training_config,
    trial_job,
)
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.records import TrialRecord, best_of
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.messages import Subject
from mnist_hpo.tracking.tracker import Tracker
from mnist_hpo.training.hyperparameters import split

_MLFLOW_END_S = 60.0
_MLFLOW_INTERRUPTED_S = 10.0


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


def run_study(
    file: StudyFile,
    home: Home,
    *,
    display: Display,
    n_workers: int | None = None,
    data_source: Path | None = None,
    give_up: Collection[int] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrialRecord]:
    """Start, continue or extend a study; return its trials.

    Trials in `give_up` are recorded as failed instead of being trained: see `Scheduler`.

    Raises:
        Interrupted: `should_stop` said so; everything is closed and the same call continues.
        UserError: something that the user can put right; nothing recorded is lost.

    """
    study = file.study
    check_give_up(study, give_up)
    dataset = prepare(study.dataset, source=data_source, log=display.say)
    context = {**provenance(), "dataset_digest": dataset.digest}
    # Locked before it is looked at: two coordinators must not make the same study.
    with study_lock(home.storage_url, study.name):
        storage = StudyStorage.create(home.storage_url, study, study_file=file.text, context=context)
        executor = LocalExecutor(n_workers)
        try:
            recorded = storage.trials()
            display.begin(study, recorded, executor.n_workers)
            tracker = Tracker(projected(storage, study, home.tracking_uri), recorded, display.warn)
            data = DataRef(str(dataset.directory), study.split, DATASETS[study.dataset].n_classes)
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
            except BaseException:
                executor.close()
                _end_tracking(tracker, study, display, None, _MLFLOW_INTERRUPTED_S)
                raise
            _end_tracking(tracker, study, display, bundle, _MLFLOW_END_S)
            return storage.trials()
        finally:
            executor.close()
            storage.close()


def projected(storage: StudyStorage, study: Study, tracking_uri: str) -> Subject:
    """What of a study MLflow is told beside its trials."""
    return Subject(tracking_uri, study, storage.study_file, storage.uid, storage.context)


def _best_bundle(
    study: Study, storage: StudyStorage, executor: Executor, data: DataRef, home: Home
) -> tuple[int, Path] | None:
    """Write the best trial's model beside its checkpoint; train it again where that is gone or damaged."""
    best = best_of(storage.trials())
    if best is None:
        return None
    checkpoints = home.checkpoints(storage)
    path = checkpoint_path(checkpoints, best.number)
    config = training_config(study, best.number, best.parameters)
    # A worker checks the checkpoint, and does nothing where it is whole.
    run_jobs(executor, [trial_job(best.number, config, data, len(best.epochs), checkpoints)])
    dataset = DATASETS[study.dataset]
    program, _ = split(config.model, config.parameters, n_features=dataset.n_features, n_classes=dataset.n_classes)
    directory = home.best_bundle(storage, best.number)
    source = {"study": study.name, "trial": best.number, "valid_loss": best.value, "epoch": best.best_epoch}
    write_bundle(directory, program, load_best_parameters(path), {**storage.context, **source})
    return best.number, directory


def _end_tracking(
    tracker: Tracker, study: Study, display: Display, bundle: tuple[int, Path] | None, timeout_s: float
) -> None:
    if not tracker.close(bundle, timeout_s=timeout_s):
        display.warn(f"MLflow does not hold all of it yet; when it can be reached: mnist-hpo sync {study.name}")


__all__ = ["Display", "Home", "Interrupted", "projected", "run_study"]
