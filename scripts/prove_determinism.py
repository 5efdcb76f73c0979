#!/usr/bin/env python
"""Check that a study's history does not depend on workers, crashes or extension: run it in many ways, compare hashes.

Every run starts in a new folder, with the real command on real MNIST. Some runs are killed with `kill -9` at a random
time (alternately the coordinator and a worker) and continued by the same command. After each run MLflow must hold
exactly one run per trial, none of them running, with the storage's losses.

The study uses TPE with Hyperband; with --study asha, asynchronous successive halving, which pauses and resumes trials
and starts a new record for an extension; with --study pareto, two objectives.

Run:  .venv/bin/python scripts/prove_determinism.py [--study all] [--kills 20] [--seed 1]
      (about ten minutes per study on 2 cores)
Exit code: 0 if all hashes agree, 1 if one differs or a check fails.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proving import (
    COMMAND,
    SEARCHES,
    STUDY,
    CheckFailedError,
    call,
    check_tracking,
    children,
    environment,
    history_of,
    running,
    wait_until_gone,
    write_study,
)
from rich.console import Console
from rich.table import Table


def main() -> int:
    """Run the studies in every way and print the hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=[*SEARCHES, "all"], default="hyperband", help="how to search")
    parser.add_argument("--kills", type=int, default=20, help="the number of runs that are killed once and continued")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the times at which runs are killed")
    parser.add_argument("--short", action="store_true", help="6 trials of 3 epochs and fewer ways: under a minute")
    options = parser.parse_args()
    searches = list(SEARCHES) if options.study == "all" else [options.study]
    n_histories = [prove(search, n_kills=options.kills, seed=options.seed, short=options.short) for search in searches]
    return 0 if set(n_histories) == {1} else 1


def prove(search: str, *, n_kills: int, seed: int, short: bool) -> int:
    """Run a study in every way and print the hashes; return the number of different histories."""
    rng = random.Random(seed)
    plan = Plan(6, 3, search) if short else Plan(24, 9, search)
    workers = (1, 2) if short else (1, 2, 4)
    ways: list[tuple[str, str, float]] = []
    for n in workers:
        ways.append(run_way(f"--workers {n}", plan, partial(run, n_workers=n)))
    duration_s = ways[-1][2]
    if not short:
        half = plan.n_trials // 2
        ways.append(run_way(f"{half} trials, extended to {plan.n_trials}", plan, extend))
    for index in range(n_kills):
        victim = ("coordinator", "worker")[index % 2]
        after_s = rng.uniform(0.3, 0.95 * duration_s)
        name = f"kill -9 of {'the' if victim == 'coordinator' else 'a'} {victim} after {after_s:.1f} s"
        kill = partial(kill_and_continue, victim=victim, after_s=after_s, rng=rng)
        ways.append(run_way(name, plan, kill))

    table = Table(title=f"{STUDY.name}: {plan.n_trials} trials, slots: 6, TPE, {search}")
    for column in ("way", "history_sha256", "seconds"):
        table.add_column(column)
    for name, digest, seconds in ways:
        table.add_row(name, digest, f"{seconds:.1f}")
    hashes = {digest for _, digest, _ in ways}
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{search}: {len(ways)} ways, {len(hashes)} history: {', '.join(sorted(hashes))}", flush=True)
    return len(hashes)


@dataclass(frozen=True)
class Plan:
    """The length of the study, and how it is searched."""

    n_trials: int
    max_epochs: int
    search: str

    def write(self, folder: Path) -> Path:
        """Write the study file into a folder."""
        return write_study(folder, n_trials=self.n_trials, max_epochs=self.max_epochs, search=self.search)


def run_way(name: str, plan: Plan, way: Callable[[Path, Plan], None]) -> tuple[str, str, float]:
    """Run the study in one way in a new folder; return the way's name, the hash and the seconds."""
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-proof-") as base:
        folder, start = Path(base), time.monotonic()
        way(folder, plan)
        seconds = time.monotonic() - start
        digest = history_of(folder, STUDY.stem)
        check_tracking(folder, STUDY.stem)
        print(f"{digest[:16]}…  {seconds:6.1f} s  {name}", flush=True)
        return name, digest, seconds


def run(folder: Path, plan: Plan, n_workers: int | None = None) -> None:
    """Run the study to its end."""
    plan.write(folder)
    call(folder, "run", STUDY.name, *([] if n_workers is None else ["--workers", str(n_workers)]))


def extend(folder: Path, plan: Plan) -> None:
    """Run half of the trials, then all of them."""
    run(folder, replace(plan, n_trials=plan.n_trials // 2))
    run(folder, plan)


def kill_and_continue(folder: Path, plan: Plan, victim: str, after_s: float, rng: random.Random) -> None:
    """Kill the coordinator or one of its workers once, check that all processes end, and continue the study."""
    study = plan.write(folder)
    command = [*COMMAND, "run", study.name]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        started = children(process.pid)
        workers = running("mnist_hpo.executors.worker", started)
        if victim == "coordinator":
            process.kill()
        elif workers:
            rng.choice(workers).kill()
        process.wait()
        wait_until_gone(started)
    run(folder, plan)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CheckFailedError as error:
        sys.exit(f"check failed: {error}")
