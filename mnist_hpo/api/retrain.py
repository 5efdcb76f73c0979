"""`mnist_hpo.retrain`: re-train and test a trial, in a child process that has a worker's environment."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnist_hpo.api.home import home_of
from mnist_hpo.api.progress import ProgressLine, progress_line
from mnist_hpo.api.run import check_n_workers
from mnist_hpo.api.studies import study_name
from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study


@dataclass(frozen=True)
class Request:
    """The request to the child process."""

    study: str
    trial: int | None
    n_seeds: int
    executor: str
    n_workers: int | None
    storage_url: str
    tracking_uri: str
    folder: str


@dataclass(frozen=True)
class Message:
    """A message for the user."""

    text: str


@dataclass(frozen=True)
class Progress:
    """The progress of the trainings, in epochs."""

    what: str
    n_done: int
    n_epochs: int


@dataclass(frozen=True)
class Failure:
    """The message of a `UserError`."""

    text: str


def retrain(
    study: str | Path | Study,
    *,
    trial: int | None = None,
    n_seeds: int = 3,
    folder: str | Path | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    executor: str = DEFAULT_EXECUTOR,
    n_workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Re-train a trial of a recorded study exactly, then on train + valid, test it, and register its model in MLflow.

    Everything runs in a child process with a worker's environment, so the figures do not depend on this process's JAX
    settings.

    Args:
        study: the study's name or file, or a `Study` of that name.
        trial: the trial's number; by default the best one. Only the best trial's model gets the alias champion.
        n_seeds: the number of tested trainings on train + valid.
        folder: the folder that contains mlruns/; by default the working folder.
        storage: the Optuna storage's URL, instead of `MNIST_HPO_STORAGE` in the environment or the one in mlruns/.
        tracking_uri: MLflow's tracking store or server, instead of `MLFLOW_TRACKING_URI` in the environment or the
            store in mlruns/.
        executor: the name of the executor that runs the trainings. It does not affect the results.
        n_workers: number of worker processes; by default one for each core. It does not affect the results.
        progress: whether to show a progress line on standard error.

    Returns:
        The champion's figures, as `mnist-hpo retrain --json` prints them (docs/schemas/retrain.schema.json). They
        include `reproduced`, `test_accuracy_mean`, `test_accuracy_std`, `confusion_matrix`, and the folders `report`
        and `model` (None if every seed diverged).

    Raises:
        UserError: an error that the caller can fix.
        RuntimeError: the child process died; the message states the cause.

    """
    check_n_workers(n_workers)
    if n_seeds < 1:
        raise UserError(f"n_seeds is {n_seeds}; use at least 1")
    home = home_of(folder, storage, tracking_uri)
    request = Request(
        study=study_name(study),
        trial=trial,
        n_seeds=n_seeds,
        executor=executor,
        n_workers=n_workers,
        storage_url=home.storage_url,
        tracking_uri=home.tracking_uri,
        folder=str(home.folder),
    )
    if not progress:
        return _retrain_in_child(request, None)
    with progress_line() as line:
        return _retrain_in_child(request, line)


def _retrain_in_child(request: Request, line: ProgressLine | None) -> dict[str, Any]:
    child = start_child(
        "mnist_hpo.api.retraining_process",
        # A notebook sets its own Matplotlib backend. Libraries' warnings do not help users.
        environment=worker_environment() | {"MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"},
        process_group=0,
    )
    try:
        child.connection.send(asdict(request))
        result = _wait_for_result(child, line)
    except (EOFError, OSError):
        raise RuntimeError(f"the process that re-trains has ended: {child.reap()}") from None
    except BaseException:
        # Interrupt the child, so that it ends its MLflow run.
        os.kill(child.process.pid, signal.SIGINT)
        child.reap()
        raise
    child.reap()
    if isinstance(result, Failure):
        raise UserError(result.text)
    return result


def _wait_for_result(child: ChildProcess, line: ProgressLine | None) -> dict[str, Any] | Failure:
    """Show the child process's messages until it sends its result."""
    while True:
        match child.connection.recv():
            case Message(text):
                if line is not None:
                    line.say(text)
            case Progress(what, n_done, n_epochs):
                if line is not None:
                    line.show(f"{what}: {n_done} of {n_epochs} epochs")
            case result:
                return result
