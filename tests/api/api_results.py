"""What calls of the API came to, and the state of the process before and after them."""

import logging
import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.util  # It adds a handler to its logger when it is imported.
import mlflow
import psutil

import mnist_hpo
from mnist_hpo.storage.records import TrialRecord


class StopError(Exception):
    """What a caller's own function raises to end a run."""


@dataclass(frozen=True)
class Runs:
    """Half of the study, stopped by the caller's function, then continued and extended by its file."""

    folder: Path
    told: list[TrialRecord]
    """What the function was told, before it stopped the run."""
    left_running: list[str]
    """Child processes after the run was stopped."""
    result: mnist_hpo.StudyResult
    printed: str
    """By both runs, neither of which was to show its progress."""
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class Retrained:
    """The study, re-trained in a folder of its own."""

    folder: Path
    figures: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


def global_state() -> dict[str, Any]:
    """What belongs to the caller's process: the API must leave it alone."""
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
    """The child processes of this program that have not ended: their commands by process number."""
    commands = {child.pid: " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)}
    return {pid: command for pid, command in commands.items() if "mnist_hpo" in command}


def started_since(before: dict[int, str]) -> list[str]:
    """The commands of `our_children` that were not there before: other test files keep workers of their own."""
    return [command for pid, command in our_children().items() if pid not in before]
