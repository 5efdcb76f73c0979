"""Helpers of prove_determinism.py and attack.py: run the real command, find its processes, check MLflow's record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "determinism.yaml"
COMMAND = [sys.executable, "-c", "from mnist_hpo.cli import main; main()"]
SEARCHES = {
    "hyperband": "pruner: {name: hyperband, min_resource: 1, reduction_factor: 3}",
    "asha": "policy: {name: asha, min_resource: 1, reduction_factor: 3}",
    "pareto": (
        "objectives: [{metric: valid_loss}, {metric: n_parameters}]\n"
        "pruner: {name: successive_halving, min_resource: 1, reduction_factor: 3}"
    ),
}
"""The lines of the study file that define the search, by name; studies/determinism.yaml has the first."""
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "paused": "SCHEDULED"}
_EXIT_TIMEOUT_S = 120.0
"""Processes end within seconds after their coordinator; on a busy machine it takes longer."""


class CheckFailedError(Exception):
    """A check failed: mnist-hpo did not behave as documented."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment without variables that choose another storage or tracking server."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MNIST_HPO_STORAGE"))}
    return ours | more


def write_study(
    folder: Path,
    *,
    n_trials: int = 24,
    max_epochs: int = 9,
    name: str = STUDY.stem,
    search: str = "hyperband",
) -> Path:
    """Write studies/determinism.yaml into a folder, with this budget and name, and one of `SEARCHES`."""
    text = STUDY.read_text()
    _require(SEARCHES["hyperband"] in text, f"{STUDY} has another pruner")
    text = text.replace(SEARCHES["hyperband"], SEARCHES[search])
    for field, value in (("n_trials", n_trials), ("max_epochs", max_epochs)):
        text = re.sub(rf"\b{field}: \d+", f"{field}: {value}", text)
    path = folder / f"{name}.yaml"
    path.write_text(re.sub(r"(?m)^name: .*", f"name: {name}", text))
    return path


def call(folder: Path, *arguments: str, **variables: str) -> str:
    """Run `mnist-hpo` in a folder and return its output.

    Raises:
        CheckFailedError: the command failed; with its message.

    """
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True)
    if done.returncode:
        raise CheckFailedError(f"mnist-hpo {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


def history_of(folder: Path, study: str) -> str:
    """Return the hash of a study's history."""
    return json.loads(call(folder, "status", study, "--json"))["history_sha256"]


def children(pid: int) -> list[psutil.Process]:
    """Return a process's children, recursively."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def running(module: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of the processes that run a module."""
    found: list[psutil.Process] = []
    for process in processes:
        try:
            if any(module in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Wait until all processes have ended, as workers and the writer of MLflow do after their coordinator.

    Raises:
        CheckFailedError: a process still runs after two minutes.

    """
    deadline = time.monotonic() + _EXIT_TIMEOUT_S
    while alive := [process.pid for process in processes if is_alive(process)]:
        if time.monotonic() > deadline:
            raise CheckFailedError(f"orphans: processes {alive} outlive their coordinator")
        time.sleep(0.1)


def check_tracking(folder: Path, study: str) -> None:
    """Check that MLflow has one run per trial, with the storage's losses and state, and a finished parent run.

    A paused trial has the state SCHEDULED there, and no run may have the state RUNNING.
    """
    trials: list[dict[str, Any]] = json.loads(call(folder, "trials", study, "--json"))
    database = folder / "mlruns" / "mlflow.db"
    _require(database.exists(), "there is no mlflow.db")
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise CheckFailedError("MLflow holds no experiment")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    is_running = [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    _require(not is_running, f"still running in MLflow: {is_running}")
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    states = [run.info.status for run in parents]
    _require(states == ["FINISHED"], f"parents in MLflow: {states}")
    tracked = [run for run in runs if run.data.tags.get("mnist_hpo.kind") == "trial"]
    by_number = {int(run.data.tags["trial.number"]): run for run in tracked}
    _require(len(tracked) == len(by_number) == len(trials), f"{len(tracked)} runs for {len(trials)} trials")
    for trial in trials:
        run = by_number[trial["number"]]
        status = run.info.status
        _require(status == _STATUS[trial["state"]], f"trial {trial['number']} is {trial['state']}, MLflow: {status}")
        metrics = client.get_metric_history(run.info.run_id, "valid_loss")
        losses = {str(metric.step): metric.value for metric in metrics}
        _require(losses == trial["valid_loss"], f"trial {trial['number']} has other losses in MLflow")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailedError(message)
