"""`mnist-hpo run`: start, continue or extend a study."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_hpo.api.studies import checked_study
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    ExecutorOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    command_line,
    console,
    print_json,
)
from mnist_hpo.executors.make_executor import DEFAULT_EXECUTOR

if TYPE_CHECKING:
    from mnist_hpo.storage.records import TrialRecord


def run(
    study: StudyArgument,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Worker processes; by default one per core. Does not change results."),
    ] = None,
    data_source: Annotated[
        Path | None,
        typer.Option(envvar="MNIST_HPO_DATA_SOURCE", help="A folder with the dataset's IDX files, gzipped or not."),
    ] = None,
    give_up_trial: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Record this trial as failed instead of training it; repeat it for several. For a trial that no "
            "available machine can train: the study is then marked machine_dependent.",
        ),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
    as_json: JsonOption = False,
) -> int:
    """Run a study: start it, continue it after a crash, or extend it after budget.n_trials has grown.

    Ctrl-C (exit code 130) and SIGTERM (143) stop it cleanly; the same command continues it. Other exit codes: 0: the
    study is complete. 1: no trial of it is complete. 2: bad input. 3: the study is complete, but not all of it is in
    MLflow; mnist-hpo sync writes the rest. At its end the run waits for MLflow while that makes progress; Ctrl-C ends
    the wait.

    Example: mnist-hpo run studies/quickstart.yaml
    """
    from mnist_hpo.cli.display import make_display
    from mnist_hpo.cli.schemas.study import RunOutput
    from mnist_hpo.cli.show import status_of, status_table
    from mnist_hpo.runner import Home, Interrupted, run_study

    file = checked_study(study)
    signals = _Signals()
    start = time.monotonic()
    with make_display() as display:
        try:
            finished = run_study(
                file,
                Home(storage, tracking_uri, FOLDER),
                display=display,
                executor=executor,
                n_workers=workers,
                data_source=data_source,
                give_up=give_up_trial or (),
                should_stop=signals.should_stop,
            )
        except Interrupted:
            finished = None
    if finished is None:
        print(f"stopped; all finished work is recorded. To continue: {command_line(*sys.argv[1:])}", file=sys.stderr)
        return signals.exit_code
    summary = status_of(file.study, finished.trials, storage, is_running=False)
    if as_json:
        print_json(RunOutput(**summary.model_dump(), seconds=round(time.monotonic() - start, 3)))
    else:
        console().print(status_table(summary))
        if summary.best:
            console().print(f"next: {command_line('retrain', file.study.name)}   (re-train the best trial and test it)")
    if not summary.best:
        print(_no_best_trial(file.study.name, finished.trials), file=sys.stderr)
    if finished.missing_in_mlflow:
        sync = command_line("sync", file.study.name, *_stores(storage, tracking_uri))
        print(f"the results are complete. To write the rest to MLflow: {sync}", file=sys.stderr)
        return 3 if summary.best else 1
    return 0 if summary.best else 1


def _stores(storage: str, tracking_uri: str) -> list[str]:
    """Return the options that make another command use these stores."""
    options: list[str] = []
    if storage != os.environ.get("MNIST_HPO_STORAGE", DEFAULT_STORAGE):
        options += ["--storage", storage]
    if tracking_uri != os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_TRACKING):
        options += ["--tracking-uri", tracking_uri]
    return options


def _no_best_trial(name: str, trials: Sequence[TrialRecord]) -> str:
    """Explain why a study has no complete trial, and suggest what to change."""
    reasons = Counter(trial.reason or "unknown reason" for trial in trials if trial.state == "failed")
    failures = "; ".join(f"{n} failed: {reason}" for reason, n in reasons.most_common(3))
    advice = "narrow the space, for example to lower values of learning_rate" if reasons else "raise budget.n_trials"
    return (
        f"no trial is complete, so there is no best one ({failures or 'all were pruned'}).\n"
        f"See {command_line('trials', name)}; then {advice}, and run the study under another name."
    )


class _Signals:
    """Signal handler: the first SIGINT or SIGTERM requests a stop, the second ends the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    @property
    def should_stop(self) -> Callable[[], bool]:
        return lambda: self._received is not None

    @property
    def exit_code(self) -> int:
        return 128 + (self._received or 0)

    def _receive(self, number: int, _frame: FrameType | None) -> Any:
        if self._received is not None:
            # The workers exit when this process does. The record is consistent at every moment.
            os._exit(128 + number)
        self._received = number
        # Not `print`: the signal may arrive in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping: finishing the current writes (press again to end at once)\n")
