"""Re-train a trial of a recorded study, test it and register it, in this process.

The process must have a worker's environment before JAX starts, so that the test figures are computed in the environment
in which the model was trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from mnist_hpo.analysis.champion_files import read_champion_test
from mnist_hpo.api.studies import champion_folder
from mnist_hpo.bundle.replace import replacing
from mnist_hpo.champion.register import register, write_report
from mnist_hpo.champion.retrain import Champion, choose_trial, retrain
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.make_executor import executor_factory
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.initial_weights import with_kept_weights
from mnist_hpo.runner import Home, projected
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.records import TrialRecord, best_of, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.client import check_reachable, user_errors
from mnist_hpo.tracking.projection import Projection


class RetrainDisplay(Protocol):
    """Shows the progress of a re-training to the user."""

    def say(self, message: str) -> None:
        """Show a message."""
        ...

    def training(self, what: str, n_epochs: int) -> AbstractContextManager[Callable[[], None]]:
        """Return the context for training something for `n_epochs`; it yields a function to call after each epoch."""
        ...


def retrain_recorded(
    record: StudyStorage,
    study: Study,
    home: Home,
    *,
    number: int | None,
    n_seeds: int,
    executor: str,
    n_workers: int | None,
    display: RetrainDisplay,
) -> dict[str, Any]:
    """Re-train a trial, the best one by default, test it and register it.

    Returns:
        The figures that `mnist-hpo retrain --json` prints.

    Raises:
        UserError: an error that the user can fix; the earlier test is kept.

    """
    start_executor, study = executor_factory(executor), with_kept_weights(study, home)
    # Held from the choice of the trial to the last write to MLflow, since a search or another retrain would interfere.
    with study_lock(home.storage_url, record.name):
        trials = record.trials()
        chosen = choose_trial(trials, number)
        check_reachable(home.tracking_uri)
        folder = champion_folder(home.folder, record) / f"trial-{chosen.number:05d}"
        n_seeds_before = _n_seeds_tested(folder)
        if n_seeds_before > n_seeds:
            display.say(f"trial {chosen.number}: replaces a test with {n_seeds_before} seeds")
        champion = _train(
            study,
            chosen,
            n_seeds=n_seeds,
            machine_dependent=is_machine_dependent(trials),
            start_executor=lambda: start_executor(n_workers),
            folder=folder,
            display=display,
        )
        registered = _register(champion, record, home.tracking_uri)
    return {
        **champion.figures(),
        **registered,
        "report": str(champion.report),
        "model": None if champion.bundle is None else str(champion.bundle),
    }


def _n_seeds_tested(folder: Path) -> int:
    """Return the number of seeds of the test in a re-trained trial's folder; 0 if there is no readable test."""
    try:
        test = read_champion_test(folder / "report")
    except UserError:
        return 0
    return 0 if test is None else test.n_seeds


def _train(
    study: Study,
    chosen: TrialRecord,
    *,
    n_seeds: int,
    machine_dependent: bool,
    start_executor: Callable[[], Executor],
    folder: Path,
    display: RetrainDisplay,
) -> Champion:
    """Re-train and test a trial; its folder is replaced when the new one is whole, with its report.

    The checkpoints of a re-training that was interrupted are kept beside the folder, and continued by the next one.
    """
    checkpoints = CheckpointStore(folder.with_name(f"unfinished-{chosen.number:05d}"))
    checkpoints.delete_partial()
    dataset = prepare(dataset_info(study.dataset), log=display.say)
    n_epochs = len(chosen.epochs) + n_seeds * (chosen.kept_epoch or 0)
    with write_errors_for_user(folder), replacing(folder) as new:
        executor = start_executor()
        try:
            with display.training(f"re-training trial {chosen.number}", n_epochs) as advance:
                champion = retrain(
                    study,
                    chosen,
                    n_seeds=n_seeds,
                    machine_dependent=machine_dependent,
                    dataset=dataset,
                    executor=executor,
                    checkpoints=checkpoints,
                    folder=new,
                    on_epoch=lambda _key, _result: advance(),
                )
        finally:
            executor.close()
        write_report(champion)
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return dataclasses.replace(champion, folder=folder)


@contextlib.contextmanager
def write_errors_for_user(folder: Path) -> Generator[None]:
    """Raise `UserError` in the context where the folder cannot be written."""
    try:
        yield
    except BrokenPipeError:  # The reader of our output has closed the pipe.
        raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}; the earlier folder is kept") from error


def _register(champion: Champion, record: StudyStorage, tracking_uri: str) -> dict[str, str | None]:
    projection = Projection(projected(record, champion.study, tracking_uri))
    try:
        with user_errors(tracking_uri):
            trials = record.trials()
            projection.open(trials)
            best = best_of(trials)
            is_best = best is not None and best.number == champion.trial.number
            registered = register(champion, projection, provenance(), is_best=is_best)
            projection.finish(trials)
    except UserError as error:
        raise UserError(f"{error}\nThe champion is tested but not registered: {champion.report}") from error
    return registered
