"""`mnist_hpo.run_study`: a study from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mnist_hpo import runner
from mnist_hpo.api.home import home_of
from mnist_hpo.api.process_state import keep_log_levels
from mnist_hpo.api.progress import make_display
from mnist_hpo.api.studies import checked_study
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR
from mnist_hpo.runner import StudyResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@keep_log_levels()
def run_study(
    study: str | Path | Study,
    *,
    folder: str | Path | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    executor: str = DEFAULT_EXECUTOR,
    n_workers: int | None = None,
    progress: bool | Callable[[TrialRecord], None] = True,
) -> StudyResult:
    """Start a study, continue it after a crash or an interrupt, or extend it after `budget.n_trials` has grown.

    What is computed follows from the study alone, as with `mnist-hpo run`: the same study gives the same
    `history_sha256`. An interrupt (KeyboardInterrupt, or an exception of `progress`) ends the workers; the same call
    continues.

    Args:
        study: the study's file, its name where studies/NAME.yaml exists, or a `Study`.
        folder: the folder that holds mlruns/, which is created where it is missing; by default the working folder.
        storage: the Optuna storage's URL, if it is not the one in mlruns/ or of the environment's `MNIST_HPO_STORAGE`.
        tracking_uri: MLflow's tracking store or server, if it is not the one in mlruns/ or of the environment's
            `MLFLOW_TRACKING_URI`.
        executor: the name of the executor that runs the trainings. Changes no result.
        n_workers: worker processes; by default one on each core. Changes no result.
        progress: True shows a line of progress on standard error, False nothing; a function is called with each trial
            that has changed, several times a trial.

    Returns:
        The trials, the best of them, the hash of the history, and what MLflow does not hold of it.

    Raises:
        UserError: something that the caller can put right; nothing recorded is lost.

    """
    check_n_workers(n_workers)
    with make_display(progress) as display:
        return runner.run_study(
            checked_study(study),
            home_of(folder, storage, tracking_uri),
            display=display,
            executor=executor,
            n_workers=n_workers,
        )


def check_n_workers(n_workers: int | None) -> None:
    """Refuse a number of workers that can do nothing.

    Raises:
        UserError: it is below 1.

    """
    if n_workers is not None and n_workers < 1:
        raise UserError(f"n_workers is {n_workers}; use at least 1, or None for one on each core")
