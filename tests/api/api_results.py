"""Results of calls of the Python API, with the state of the process before and after them."""

import logging
import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.util  # Imported here because the import adds a handler to its logger.
import mlflow
import psutil

import mnist_hpo
from mnist_hpo.storage.records import TrialRecord


class StopError(Exception):
    """Raised by a caller's progress function to end a run."""


@dataclass(frozen=True)
class Runs:
    """A run of half the study that the progress function stopped, then a run that continued and extended it."""

    folder: Path
    reported: list[TrialRecord]
    """The trials passed to the progress function before it stopped the run."""
    left_running: list[str]
    """Child processes after the run was stopped."""
    result: mnist_hpo.StudyResult
    printed: str
    """The output of both runs, which should be empty: neither displays progress."""
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class Retrained:
    """A copy of the study with its best trial re-trained."""

    folder: Path
    figures: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


def global_state() -> dict[str, Any]:
    """Return the global state of the process that the API must not change."""
    names = (alembic.__name__, mlflow.__name__, "optuna", "sqlalchemy")
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    return {
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "loggers": [(logger.name, logger.level, list(logger.handlers), logger.disabled) for logger in loggers],
        "MLflow": (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()),
        "niceness": os.nice(0),
    }


def our_children() -> dict[int, str]:
    """Return the commands of this process's running mnist_hpo children, by process id."""
    commands = {child.pid: " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)}
    return {pid: command for pid, command in commands.items() if "mnist_hpo" in command}


def started_since(before: dict[int, str]) -> list[str]:
    """Return the commands of children that were started since; other test files keep workers of their own."""
    return [command for pid, command in our_children().items() if pid not in before]
