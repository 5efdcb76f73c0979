#!/usr/bin/env python
"""Attack mnist-hpo with kills, storage aliases and load, and check after each attack that nothing was lost.

An attack runs a short study with the real command, in a new folder, and disturbs it:

  run       kill -9 of the coordinator, a worker, the MLflow writer, or all at once, one to three times
  retrain   the same; the champion in place must be the old one or the new one, and whole
  sync      kill -9 of the process, or of it and its children
  data      kill -9 while MNIST is prepared
  report    kill -9 while the page is written over an older one
  alias     a second coordinator under another name of the same storage: symlink, hard link, other URL forms, or the
            same name with the lock folder deleted
  race      two coordinators of one study, started together in an empty folder
  pair      two studies, started together in an empty folder, on a busy machine
  busy      one study on a busy machine
  mlflow    mlflow.db is deleted while a study runs

Then the same command must continue to the undisturbed result: one history_sha256; in MLflow one run a trial with the
storage's losses and final states, a finished parent and nothing running; no orphan process; no temporary file.

Run:  .venv/bin/python scripts/attack.py [--minutes 30] [--seed 1] [--only alias]
An attack's seed is printed with it: `--seed S --attacks 1` repeats it, up to the timing of the machine. Of an attack
that did not hold, the folder is kept. Exit code 0 where all attacks held, 1 where one did not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
from proving import (
    COMMAND,
    NotHeldError,
    call,
    check_tracking,
    children,
    environment,
    history_of,
    is_alive,
    running,
    wait_until_gone,
    write_study,
)

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.splits import SPLIT_KEY

MARK = "MNIST_HPO_ATTACK"
"""An environment variable that every process of an attack inherits; orphans are found by it."""
N_TRIALS, MAX_EPOCHS = 8, 3
HANGS_S = 600.0
"""Nothing here takes a tenth of this; a command that does is hanging."""
VICTIMS = ("coordinator", "worker", "writer", "all")
TEMPORARY = (".new", ".tmp", ".partial", ".old")


@dataclass
class Started:
    """An `mnist-hpo` that runs."""

    process: subprocess.Popen[bytes]
    errors: Path

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(HANGS_S)
        except subprocess.TimeoutExpired:
            raise NotHeldError(f"hangs: {self.process.args}") from None

    def message(self) -> str:
        """What it wrote to standard error."""
        return self.errors.read_text(errors="replace")

    def expect(self, *codes: int) -> int:
        """Wait for its end; it must have one of these exit codes and no traceback."""
        code = self.wait()
        message = self.message()
        if code not in codes or "Traceback" in message:
            raise NotHeldError(f"exit code {code} of {self.process.args[len(COMMAND) :]}:\n{message[-2000:]}")
        return code


class Attack:
    """One attack's folder, its random numbers and its processes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.done: list[str] = []
        """What was done, for the printed line."""
        self._id = uuid.uuid4().hex
        self._n_started = 0

    def start(self, *arguments: str, **variables: str) -> Started:
        """Start `mnist-hpo` in the folder."""
        self._n_started += 1
        errors = self.folder / f"stderr-{self._n_started}.txt"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=environment(**{MARK: self._id}, **variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        return Started(process, errors)

    def moment(self, duration_s: float) -> float:
        """A random moment in something that takes about so long."""
        return self.rng.uniform(0.05, 1.05) * duration_s

    def processes(self) -> list[psutil.Process]:
        """Every process of this attack that is alive, whoever its parent is now."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._id and is_alive(process):
                    found.append(process)
        return found

    def kill(self, started: Started, victim: str, after_s: float) -> bool:
        """Kill the victim after a while; return whether the coordinator was killed. Nothing is if it ended before."""
        try:
            started.process.wait(after_s)
        except subprocess.TimeoutExpired:
            family = children(started.process.pid)
            modules = {"worker": "mnist_hpo.executors.worker", "writer": "mnist_hpo.tracking.writer"}
            if victim in modules:
                while not (candidates := running(modules[victim], children(started.process.pid))):
                    if started.process.poll() is not None:
                        self.done.append(f"ended without a {victim} to kill")
                        return False
                    time.sleep(0.05)
                victims = [self.rng.choice(candidates)]
            else:
                victims = [psutil.Process(started.process.pid), *(family if victim == "all" else [])]
            for process in victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            self.done.append(f"kill -9 of {victim} after {after_s:.1f} s")
            if victim in ("coordinator", "all"):
                started.process.wait()
                wait_until_gone(family)
                return True
            return False
        self.done.append("ended before the kill")
        return False

    @contextlib.contextmanager
    def load(self, n: int) -> Generator[None]:
        """Keep the machine busy."""
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
        self.done.append(f"{n} busy loops")
        try:
            yield
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()

    def check_clean(self) -> None:
        """No process and no temporary file is left."""
        wait_until_gone(self.processes())
        left = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if is_temporary(path)]
        if left:
            raise NotHeldError(f"left behind: {', '.join(sorted(left))}")

    def clean_up(self) -> None:
        """Kill whatever is left, so that an attack that did not hold disturbs no other."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that a finished command may not leave."""
    return any(mark in path.name for mark in TEMPORARY)


class Reference:
    """What undisturbed commands come to, and how long they take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_study(folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
        self.durations_s: dict[str, float] = {}
        """By verb."""
        self._call(folder, "run", "determinism.yaml")
        self._histories = {"determinism": history_of(folder, "determinism")}

    def history(self, name: str) -> str:
        """The history of the study under this name, on which Hyperband's brackets depend in Optuna."""
        if name not in self._histories:
            write_study(self.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS, name=name)
            call(self.folder, "run", f"{name}.yaml")
            self._histories[name] = history_of(self.folder, name)
        return self._histories[name]

    def _call(self, folder: Path, verb: str, *arguments: str, **variables: str) -> str:
        began = time.monotonic()
        printed = call(folder, verb, *arguments, **variables)
        self.durations_s[verb] = time.monotonic() - began
        return printed

    def copy_record(self, folder: Path) -> None:
        """Give a folder this study's file, storage and checkpoints, as after a run without MLflow."""
        (folder / "mlruns").mkdir()
        shutil.copy(self.folder / "determinism.yaml", folder)
        databases = [sqlite3.connect(place / "mlruns" / "optuna.db") for place in (self.folder, folder)]
        with contextlib.closing(databases[0]), contextlib.closing(databases[1]):
            databases[0].backup(databases[1])
        shutil.copytree(self.folder / "mlruns" / "checkpoints", folder / "mlruns" / "checkpoints")

    @cached_property
    def champion(self) -> Path:
        """The champions folder after an undisturbed `retrain` with one seed."""
        self._call(self.folder, "retrain", "determinism", "--seeds", "1")
        kept = self.folder / "champions-with-one-seed"
        shutil.copytree(self.folder / "mlruns" / "champions", kept)
        return kept

    @cached_property
    def test_accuracies(self) -> list[float]:
        """Of an undisturbed `retrain` with two seeds."""
        _ = self.champion
        self._call(self.folder, "retrain", "determinism", "--seeds", "2")
        return test_accuracies(self.folder / "mlruns" / "champions")

    @cached_property
    def page(self) -> bytes:
        """The report of the record alone, without a champion."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as folder:
            self.copy_record(Path(folder))
            self._call(Path(folder), "report", "determinism", "-o", "page.html")
            return (Path(folder) / "page.html").read_bytes()

    @cached_property
    def sync_s(self) -> float:
        """How long an undisturbed `sync` into an empty store takes."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as folder:
            self.copy_record(Path(folder))
            self._call(Path(folder), "sync", "determinism")
        return self.durations_s["sync"]

    @cached_property
    def idx_files(self) -> Path:
        """MNIST's four files, by undoing what `prepare` did."""
        directory = prepare("mnist").directory
        search, (test_images, test_labels) = load_search(directory, "standard"), load_test(directory, "standard")
        order = np.argsort(permutation(60_000, SPLIT_KEY))
        folder = self.folder / "idx"
        folder.mkdir()
        for name, array in {
            "train-images-idx3-ubyte": search.development_images[order].reshape(-1, 28, 28),
            "train-labels-idx1-ubyte": search.development_labels[order],
            "t10k-images-idx3-ubyte": np.asarray(test_images).reshape(-1, 28, 28),
            "t10k-labels-idx1-ubyte": np.asarray(test_labels),
        }.items():
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
        return folder

    @cached_property
    def dataset_digest(self) -> str:
        """The digest of MNIST prepared in a new folder, undisturbed."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as root:
            source = str(self.idx_files)
            printed = self._call(Path(root), "data", "--data-source", source, "--json", MNIST_HPO_DATA_DIR=root)
            return json.loads(printed)["digest"]


def test_accuracies(champions: Path) -> list[float]:
    """The test accuracies of the champion in place, by seed, once its models are whole."""
    in_place = [path for path in champions.glob("*/trial-*") if not is_temporary(path)]
    if len(in_place) != 1:
        raise NotHeldError(f"champions in place: {[path.name for path in in_place]}")
    (folder,) = in_place
    try:
        accuracies = json.loads((folder / "report" / "champion.json").read_text())["test_accuracy"]
        for seed in range(len(accuracies)):
            load_bundle(folder / ("model" if seed == 0 else f"model-seed-{seed}"))
    except Exception as error:
        raise NotHeldError(f"the champion in {folder} is not whole: {error!r}") from error
    return accuracies


def check_study(attack: Attack, reference: Reference, study: str = "determinism") -> None:
    """A study has ended, with the undisturbed history and all of it in MLflow."""
    history, undisturbed = history_of(attack.folder, study), reference.history(study)
    if history != undisturbed:
        raise NotHeldError(f"history_sha256 is {history[:16]}…, undisturbed {undisturbed[:16]}…")
    check_tracking(attack.folder, study)


def attack_run(attack: Attack, reference: Reference) -> None:
    """Kill one to three times, then let it end."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    for _ in range(attack.rng.randint(1, 3)):
        started = attack.start("run", "determinism.yaml")
        victim = attack.rng.choice(VICTIMS)
        if not attack.kill(started, victim, attack.moment(reference.durations_s["run"])):
            started.expect(0)
            check_study(attack, reference)
    attack.start("run", "determinism.yaml").expect(0)
    check_study(attack, reference)


def attack_retrain(attack: Attack, reference: Reference) -> None:
    """Kill while a champion with one seed is replaced by one with two."""
    expected, old = reference.test_accuracies, reference.champion
    reference.copy_record(attack.folder)
    champions = attack.folder / "mlruns" / "champions"
    shutil.copytree(old, champions)
    call(attack.folder, "sync", "determinism")
    command = ("retrain", "determinism", "--seeds", "2")
    started = attack.start(*command)
    victim = attack.rng.choice(("coordinator", "worker", "all"))
    if attack.kill(started, victim, attack.moment(reference.durations_s["retrain"])):
        found = test_accuracies(champions)
        if found not in (expected, test_accuracies(old)):
            raise NotHeldError(f"the champion after the kill has test accuracies {found}")
    else:
        started.expect(0)
    attack.start(*command).expect(0)
    if (found := test_accuracies(champions)) != expected:
        raise NotHeldError(f"test accuracies {found}, undisturbed {expected}")
    check_study(attack, reference)


def attack_sync(attack: Attack, reference: Reference) -> None:
    """Kill while MLflow is rebuilt."""
    reference.copy_record(attack.folder)
    after_s = attack.moment(reference.sync_s)
    started = attack.start("sync", "determinism")
    if not attack.kill(started, attack.rng.choice(("coordinator", "all")), after_s):
        started.expect(0)
        check_study(attack, reference)
    attack.start("sync", "determinism").expect(0)
    check_study(attack, reference)


def attack_data(attack: Attack, reference: Reference) -> None:
    """Kill while a dataset is prepared."""
    digest, root = reference.dataset_digest, attack.folder / "data"
    command, place = ("data", "--data-source", str(reference.idx_files), "--json"), {"MNIST_HPO_DATA_DIR": str(root)}
    started = attack.start(*command, **place)
    if not attack.kill(
        started, attack.rng.choice(("coordinator", "all")), attack.moment(reference.durations_s["data"])
    ):
        started.expect(0)
    found = json.loads(call(attack.folder, *command, **place))["digest"]
    if found != digest:
        raise NotHeldError(f"digest {found}, undisturbed {digest}")
    names = sorted(path.name for path in root.iterdir())
    if names != ["mnist", "mnist.lock"]:
        raise NotHeldError(f"in the datasets' folder: {names}")


def attack_report(attack: Attack, reference: Reference) -> None:
    """Kill while a page is written over an older one."""
    new = reference.page
    old = new.replace(b"</body>", b"<!-- an older page --></body>")
    reference.copy_record(attack.folder)
    page = attack.folder / "page.html"
    page.write_bytes(old)
    command = ("report", "determinism", "-o", "page.html")
    started = attack.start(*command)
    attack.kill(started, "coordinator", attack.moment(reference.durations_s["report"]))
    if page.read_bytes() not in (old, new):
        raise NotHeldError("the page after the kill is neither the old nor the new one")
    attack.start(*command).expect(0)
    if page.read_bytes() != new:
        raise NotHeldError("the page is not the undisturbed one")


def attack_alias(attack: Attack, reference: Reference) -> None:
    """A second coordinator finds the same storage under another name, while the first one runs."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    first = attack.start("run", "determinism.yaml")
    storage = attack.folder / "mlruns" / "optuna.db"
    while "trial" not in first.message() and first.process.poll() is None:
        time.sleep(0.05)
    kinds = ("symlink", "hard link", "symlinked folder", "driver", "query", "absolute path", "deleted lock folder")
    kind = attack.rng.choice(kinds)
    attack.done.append(kind)
    url = "sqlite:///mlruns/optuna.db"
    match kind:
        case "symlink":
            (attack.folder / "link.db").symlink_to(storage)
            url = "sqlite:///link.db"
        case "hard link":
            (attack.folder / "link.db").hardlink_to(storage)
            url = "sqlite:///link.db"
        case "symlinked folder":
            (attack.folder / "elsewhere").symlink_to(attack.folder / "mlruns")
            url = "sqlite:///elsewhere/optuna.db"
        case "driver":
            url = "sqlite+pysqlite:///mlruns/optuna.db"
        case "query":
            url = "sqlite:///mlruns/optuna.db?timeout=5"
        case "absolute path":
            url = f"sqlite:///{storage}"
        case _:
            for locks in (attack.folder / "mlruns").glob("optuna.db*lock*"):
                shutil.rmtree(locks) if locks.is_dir() else locks.unlink()
    second = attack.start("run", "determinism.yaml", "--storage", url)
    was_running = first.process.poll() is None
    code = second.wait()
    if not was_running:
        attack.done.append("the first had ended before")
    elif code != 2 or "Traceback" in second.message():
        raise NotHeldError(f"the second coordinator ended with exit code {code}:\n{second.message()[-2000:]}")
    first.expect(0)
    (attack.folder / "link.db").unlink(missing_ok=True)
    check_study(attack, reference)


def attack_race(attack: Attack, reference: Reference) -> None:
    """Two coordinators of one study begin at once; one may come too late and be told so."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    both = [attack.start("run", "determinism.yaml") for _ in range(2)]
    codes = sorted(started.expect(0, 2) for started in both)
    attack.done.append(f"exit codes {codes}")
    if codes[0] != 0:
        raise NotHeldError("neither of the two coordinators ran the study")
    check_study(attack, reference)


def attack_pair(attack: Attack, reference: Reference) -> None:
    """Two studies begin at once in an empty folder."""
    names = ("first", "second")
    for name in names:
        write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS, name=name)
    with attack.load(attack.rng.randint(0, 3)):
        both = [attack.start("run", f"{name}.yaml") for name in names]
        for started in both:
            started.expect(0)
    for name in names:
        check_study(attack, reference, name)


def attack_busy(attack: Attack, reference: Reference) -> None:
    """One study while other programs want every core."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    with attack.load(attack.rng.randint(2, 8)):
        attack.start("run", "determinism.yaml").expect(0)
    check_study(attack, reference)


def attack_mlflow(attack: Attack, reference: Reference) -> None:
    """Delete mlflow.db under a running study: all is written again, or exit code 3 and the cause; `sync` repairs it."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    started = attack.start("run", "determinism.yaml")
    after_s = attack.moment(reference.durations_s["run"])
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.process.wait(after_s)
    for file in (attack.folder / "mlruns").glob("mlflow.db*"):
        file.unlink(missing_ok=True)
    in_the_middle = n_ended(attack.folder / "mlruns" / "optuna.db") < N_TRIALS
    attack.done.append(f"mlflow.db deleted after {after_s:.1f} s, {'in the middle' if in_the_middle else 'at the end'}")
    if started.expect(0, 3) == 0 and in_the_middle:
        check_study(attack, reference)
    attack.start("sync", "determinism").expect(0)
    check_study(attack, reference)


def n_ended(storage: Path) -> int:
    """How many trials a storage holds that have ended."""
    if not storage.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM trials WHERE state != 'RUNNING'").fetchone()[0]
        except sqlite3.OperationalError:  # Its tables are being made.
            return 0


KINDS: dict[str, Callable[[Attack, Reference], None]] = {
    "run": attack_run,
    "retrain": attack_retrain,
    "sync": attack_sync,
    "data": attack_data,
    "report": attack_report,
    "alias": attack_alias,
    "race": attack_race,
    "pair": attack_pair,
    "busy": attack_busy,
    "mlflow": attack_mlflow,
}


def carry_out(kind: str, seed: int, reference: Reference) -> bool:
    """Carry out one attack and print a line; return whether it held."""
    folder = Path(tempfile.mkdtemp(prefix=f"mnist-hpo-attack-{kind}-"))
    attack = Attack(folder, seed)
    began = time.monotonic()
    try:
        KINDS[kind](attack, reference)
        attack.check_clean()
    except NotHeldError as error:
        outcome, why = "NOT HELD", str(error)
    else:
        outcome, why = "held", ""
        shutil.rmtree(folder)
    finally:
        attack.clean_up()
    seconds = time.monotonic() - began
    print(f"{outcome:8}  {kind:8}  seed {seed:<6}  {seconds:6.1f} s  {'; '.join(attack.done)}", flush=True)
    if why:
        print(f"    {folder}: " + why.strip().replace("\n", "\n    "), flush=True)
    return not why


def main() -> int:
    """Attack until the time is over; print the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long new attacks begin")
    parser.add_argument("--attacks", type=int, help="how many at most")
    parser.add_argument("--seed", type=int, help="of the first attack; by default drawn, and printed")
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind alone (may be repeated)")
    options = parser.parse_args()
    first_seed = random.randrange(100_000) if options.seed is None else options.seed
    kinds = options.only or list(KINDS)
    deadline = time.monotonic() + 60 * options.minutes
    print(f"attacks from seed {first_seed} on: {', '.join(kinds)}", flush=True)

    attacked, held = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-reference-") as folder:
        reference = Reference(Path(folder))
        seed = first_seed
        while time.monotonic() < deadline and seed - first_seed != options.attacks:
            kind = kinds[seed % len(kinds)]
            attacked[kind] += 1
            held[kind] += carry_out(kind, seed, reference)
            seed += 1

    print(f"\n{'kind':8}  attacks  held")
    for kind in attacked:
        print(f"{kind:8}  {attacked[kind]:7}  {held[kind]:4}")
    print(f"{'all':8}  {attacked.total():7}  {held.total():4}")
    return 0 if attacked == held else 1


if __name__ == "__main__":
    sys.exit(main())
