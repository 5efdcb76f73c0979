"""Shared by prove_determinism.py and attack.py: the real command in a folder, its processes, and checks of MLflow."""

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
"""How the study can be searched beside TPE, by name; the first one stands in its file."""
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "paused": "SCHEDULED"}
_GONE_S = 120.0
"""Processes end within seconds of their coordinator; a busy machine may need more."""


class NotHeldError(Exception):
    """Something is not as it must be."""


def environment(**more: str) -> dict[str, str]:
    """A user's environment: nothing there names another storage, tracking server or dataset."""
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
    """Call `mnist-hpo` in a folder and return its output; raise NotHeldError with its message where it fails."""
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True)
    if done.returncode:
        raise NotHeldError(f"mnist-hpo {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


def history_of(folder: Path, study: str) -> str:
    """The hash of a study's history."""
    return json.loads(call(folder, "status", study, "--json"))["history_sha256"]


def children(pid: int) -> list[psutil.Process]:
    """The processes that a process has started, with theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def running(module: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that run a module."""
    found: list[psutil.Process] = []
    for process in processes:
        try:
            if any(module in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """No orphans: workers, and the writer of MLflow, end by themselves when their coordinator has ended."""
    deadline = time.monotonic() + _GONE_S
    while alive := [process.pid for process in processes if is_alive(process)]:
        if time.monotonic() > deadline:
            raise NotHeldError(f"orphans: processes {alive} outlive their coordinator")
        time.sleep(0.1)


def check_tracking(folder: Path, study: str) -> None:
    """MLflow holds one run a trial with the storage's losses and state, a finished parent, and nothing is running.

    A trial that is left paused is scheduled there.
    """
    trials: list[dict[str, Any]] = json.loads(call(folder, "trials", study, "--json"))
    database = folder / "mlruns" / "mlflow.db"
    _require(database.exists(), "there is no mlflow.db")
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise NotHeldError("MLflow holds no experiment")
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


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise NotHeldError(otherwise)
