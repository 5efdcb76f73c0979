#!/usr/bin/env python
"""Show that a study's history does not depend on workers, crashes or extension: run it many ways and compare hashes.

Every way runs in a folder of its own, from nothing, with the real command on real MNIST. The killed ones are hit by
`kill -9` at a random moment, the coordinator and a worker in turn, and continued by the same command. After each way
MLflow must hold exactly one run a trial, none of them running, with the storage's losses.

Run:  .venv/bin/python scripts/prove_determinism.py [--kills 20] [--seed 1]     (ten minutes or so on 2 cores)
Exit code 0 where all agree, 1 where one differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "determinism.yaml"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MNIST_HPO_"))}
"""Each way keeps its record in its own folder, whatever stores the caller's environment names."""
COMMAND = [sys.executable, "-c", "from mnist_hpo.cli import main; main()"]


def main() -> int:
    """Run every way, print the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed once each, and continued")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which they are killed")
    options = parser.parse_args()
    rng = random.Random(options.seed)

    ways: list[tuple[str, str, float]] = []
    duration_s = 20.0
    for n_workers in (1, 2, 4):
        ways.append(run_way(f"--workers {n_workers}", lambda folder, n=n_workers: run(folder, "--workers", str(n))))
        duration_s = ways[-1][2]
    ways.append(run_way("12 trials, extended to 24", extend))
    for index in range(options.kills):
        victim = ("coordinator", "worker")[index % 2]
        after_s = rng.uniform(0.3, 0.95 * duration_s)
        name = f"kill -9 of {'the' if victim == 'coordinator' else 'a'} {victim} after {after_s:.1f} s"
        ways.append(run_way(name, lambda folder, v=victim, s=after_s: kill_and_continue(folder, v, s, rng)))

    table = Table(title=f"{STUDY.name}: 24 trials, slots: 6, TPE, Hyperband")
    for column in ("way", "history_sha256", "seconds"):
        table.add_column(column)
    for name, digest, seconds in ways:
        table.add_row(name, digest, f"{seconds:.1f}")
    hashes = {digest for _, digest, _ in ways}
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{len(ways)} ways, {len(hashes)} history: {', '.join(sorted(hashes))}")
    return 0 if len(hashes) == 1 else 1


def run_way(name: str, way) -> tuple[str, str, float]:
    """Run one way in a fresh folder; return its name, hash and seconds."""
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-proof-") as folder:
        start = time.monotonic()
        way(Path(folder))
        seconds = time.monotonic() - start
        status = json.loads(call(Path(folder), "status", STUDY.stem, "--json"))
        check_tracking(Path(folder))
        print(f"{status['history_sha256'][:16]}…  {seconds:6.1f} s  {name}", flush=True)
        return name, status["history_sha256"], seconds


def run(folder: Path, *options: str, study: Path = STUDY) -> None:
    """Run the study to its end."""
    call(folder, "run", str(study), *options)


def extend(folder: Path) -> None:
    """Run half of the trials, then all of them."""
    half = folder / STUDY.name
    half.write_text(re.sub(r"n_trials: \d+", "n_trials: 12", STUDY.read_text()))
    run(folder, study=half)
    run(folder)


def kill_and_continue(folder: Path, victim: str, after_s: float, rng: random.Random) -> None:
    """Kill the coordinator or one of its workers once, see that nobody is left over, and go on."""
    process = subprocess.Popen(
        [*COMMAND, "run", str(STUDY)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        started = children(process.pid)
        workers = [pid for pid, command in started.items() if "mnist_hpo.executors.worker" in command]
        if victim == "coordinator":
            process.kill()
        elif workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        process.wait()
        wait_until_gone(list(started))
    run(folder)


def children(pid: int) -> dict[int, str]:
    """The processes that a process has started, with their commands."""
    ask = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)]
    found = subprocess.run(ask, capture_output=True, text=True, check=False)
    return {int(line.split()[0]): line for line in found.stdout.splitlines()}


def wait_until_gone(pids: list[int]) -> None:
    """No orphans: workers, and the writer of MLflow, end themselves within seconds of their coordinator."""
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > deadline:
            raise SystemExit(f"processes {alive} are still there 10 s after their coordinator's end")
        time.sleep(0.1)


def check_tracking(folder: Path) -> None:
    """MLflow holds one run a trial, none running, each with the storage's losses."""
    trials = json.loads(call(folder, "trials", STUDY.stem, "--json"))
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name(STUDY.stem)
    runs = client.search_runs([experiment.experiment_id], "tags.`mnist_hpo.kind` = 'trial'", max_results=1000)
    by_number = {int(run.data.tags["trial.number"]): run for run in runs}
    assert len(runs) == len(by_number) == len(trials), f"{len(runs)} runs for {len(trials)} trials"
    for trial in trials:
        tracked = by_number[trial["number"]]
        assert tracked.info.status != "RUNNING", f"trial {trial['number']} is still running in MLflow"
        metrics = client.get_metric_history(tracked.info.run_id, "valid_loss")
        assert {str(m.step): m.value for m in metrics} == trial["valid_loss"], f"trial {trial['number']} differs"


def call(folder: Path, *arguments: str) -> str:
    """Call `mnist-hpo` in a folder; end here with its message where it fails."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"mnist-hpo {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
