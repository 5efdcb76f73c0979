"""`mnist_hpo.run_study`: run a study from Python."""

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

    As with `mnist-hpo run`, the results depend only on the study: the same study gives the same `history_sha256`. An
    interrupt (KeyboardInterrupt, or an exception raised by `progress`) ends the workers; the same call continues.

    Args:
        study: the study's file, its name if studies/NAME.yaml exists, or a `Study`.
        folder: the folder that contains mlruns/, which is created if missing; by default the working folder.
        storage: the Optuna storage's URL, instead of `MNIST_HPO_STORAGE` in the environment or the one in mlruns/.
        tracking_uri: MLflow's tracking store or server, instead of `MLFLOW_TRACKING_URI` in the environment or the
            store in mlruns/.
        executor: the name of the executor that runs the trainings. It does not affect the results.
        n_workers: number of worker processes; by default one for each core. It does not affect the results.
        progress: True shows a progress line on standard error, False shows nothing. A function is called with each
            changed trial, several times per trial.

    Returns:
        The trials, the best trial, the hash of the history, and what is missing in MLflow.

    Raises:
        UserError: an error that the caller can fix; nothing recorded is lost.

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
    """Check the number of workers.

    Raises:
        UserError: it is below 1.

    """
    if n_workers is not None and n_workers < 1:
        raise UserError(f"n_workers is {n_workers}; use at least 1, or None for one on each core")
