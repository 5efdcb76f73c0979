#!/usr/bin/env python
"""Attack mnist-hpo with kills, storage aliases and load, and check after each attack that nothing was lost.

An attack runs a short study with the real command, in a new folder, and disturbs it:

  run       kill -9 of the coordinator, a worker, the MLflow writer, or all at once, one to three times
  retrain   the same; the current champion must be the complete old one or the complete new one
  sync      kill -9 of the process, or of it and its children
  data      kill -9 while MNIST is prepared
  report    kill -9 while the page is written over an older one
  alias     a second coordinator under another name of the same storage: symlink, hard link, other URL forms, or the
            same name with the lock folder deleted
  race      two coordinators of one study, started together in an empty folder
  pair      two studies, started together in an empty folder, on a busy machine
  busy      one study on a busy machine
  mlflow    mlflow.db is deleted while a study runs

Then the same command must continue to the undisturbed result: the same history_sha256; in MLflow one run per trial with
the storage's losses and final states, a finished parent run and no running one; no orphan process; no temporary file.

Run:  .venv/bin/python scripts/attack.py [--minutes 30] [--seed 1] [--only alias]
The seed of each attack is printed: `--seed S --attacks 1` repeats it, except for the machine's timing. The folder of a
failed attack is kept. Exit code: 0 if mnist-hpo passed all attacks, else 1.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attacks.kinds import KINDS
from attacks.processes import Attack
from attacks.undisturbed import Reference
from proving import CheckFailedError


def run_attack(kind: str, seed: int, reference: Reference) -> bool:
    """Run one attack and print its result; return whether mnist-hpo passed."""
    folder = Path(tempfile.mkdtemp(prefix=f"mnist-hpo-attack-{kind}-"))
    attack = Attack(folder, seed)
    began = time.monotonic()
    try:
        KINDS[kind](attack, reference)
        attack.check_clean()
    except CheckFailedError as error:
        outcome, cause = "FAILED", str(error)
    else:
        outcome, cause = "passed", ""
        shutil.rmtree(folder)
    finally:
        attack.clean_up()
    seconds = time.monotonic() - began
    print(f"{outcome:8}  {kind:8}  seed {seed:<6}  {seconds:6.1f} s  {'; '.join(attack.done)}", flush=True)
    if cause:
        print(f"    {folder}: " + cause.strip().replace("\n", "\n    "), flush=True)
    return not cause


def main() -> int:
    """Attack until the time is up; print a table of the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="start no new attack after this time")
    parser.add_argument("--attacks", type=int, help="the maximum number of attacks")
    parser.add_argument("--seed", type=int, help="the first attack's seed; by default random, and printed")
    parser.add_argument("--only", choices=KINDS, action="append", help="only this kind of attack (may be repeated)")
    options = parser.parse_args()
    first_seed = random.randrange(100_000) if options.seed is None else options.seed
    kinds = options.only or list(KINDS)
    deadline = time.monotonic() + 60 * options.minutes
    print(f"attacks from seed {first_seed} on: {', '.join(kinds)}", flush=True)

    attacked, passed = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-reference-") as folder:
        reference = Reference(Path(folder))
        seed = first_seed
        while time.monotonic() < deadline and seed - first_seed != options.attacks:
            kind = kinds[seed % len(kinds)]
            attacked[kind] += 1
            passed[kind] += run_attack(kind, seed, reference)
            seed += 1

    print(f"\n{'kind':8}  attacks  passed")
    for kind in attacked:
        print(f"{kind:8}  {attacked[kind]:7}  {passed[kind]:6}")
    print(f"{'all':8}  {attacked.total():7}  {passed.total():6}")
    return 0 if attacked == passed else 1


if __name__ == "__main__":
    sys.exit(main())
