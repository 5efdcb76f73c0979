"""The attacks by kind; scripts/attack.py describes each."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from proving import CheckFailedError, call, check_tracking, history_of, write_study

from attacks.processes import Attack
from attacks.undisturbed import MAX_EPOCHS, N_TRIALS, Reference, test_accuracies

VICTIMS = ("coordinator", "worker", "writer", "all")


def check_study(attack: Attack, reference: Reference, study: str = "determinism") -> None:
    """Check that a study is complete, with the undisturbed history and a complete record in MLflow."""
    history, undisturbed = history_of(attack.folder, study), reference.history(study)
    if history != undisturbed:
        raise CheckFailedError(f"history_sha256 is {history[:16]}…, undisturbed {undisturbed[:16]}…")
    check_tracking(attack.folder, study)


def attack_run(attack: Attack, reference: Reference) -> None:
    """Kill a run one to three times, then let it finish."""
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
    """Kill `retrain` while a champion with one seed is replaced by one with two."""
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
            raise CheckFailedError(f"the champion after the kill has test accuracies {found}")
    else:
        started.expect(0)
    attack.start(*command).expect(0)
    if (found := test_accuracies(champions)) != expected:
        raise CheckFailedError(f"test accuracies {found}, undisturbed {expected}")
    check_study(attack, reference)


def attack_sync(attack: Attack, reference: Reference) -> None:
    """Kill `sync` while it rebuilds MLflow's record."""
    reference.copy_record(attack.folder)
    after_s = attack.moment(reference.sync_s)
    started = attack.start("sync", "determinism")
    if not attack.kill(started, attack.rng.choice(("coordinator", "all")), after_s):
        started.expect(0)
        check_study(attack, reference)
    attack.start("sync", "determinism").expect(0)
    check_study(attack, reference)


def attack_data(attack: Attack, reference: Reference) -> None:
    """Kill `data` while it prepares a dataset."""
    digest, root = reference.dataset_digest, attack.folder / "data"
    command, place = ("data", "--data-source", str(reference.idx_files), "--json"), {"MNIST_HPO_DATA_DIR": str(root)}
    started = attack.start(*command, **place)
    if not attack.kill(
        started, attack.rng.choice(("coordinator", "all")), attack.moment(reference.durations_s["data"])
    ):
        started.expect(0)
    found = json.loads(call(attack.folder, *command, **place))["digest"]
    if found != digest:
        raise CheckFailedError(f"digest {found}, undisturbed {digest}")
    names = sorted(path.name for path in root.iterdir())
    if names != ["mnist", "mnist.lock"]:
        raise CheckFailedError(f"in the datasets' folder: {names}")


def attack_report(attack: Attack, reference: Reference) -> None:
    """Kill `report` while it replaces an older page."""
    new = reference.page
    old = new.replace(b"</body>", b"<!-- an older page --></body>")
    reference.copy_record(attack.folder)
    page = attack.folder / "page.html"
    page.write_bytes(old)
    command = ("report", "determinism", "-o", "page.html")
    started = attack.start(*command)
    attack.kill(started, "coordinator", attack.moment(reference.durations_s["report"]))
    if page.read_bytes() not in (old, new):
        raise CheckFailedError("the page after the kill is neither the old nor the new one")
    attack.start(*command).expect(0)
    if page.read_bytes() != new:
        raise CheckFailedError("the page is not the undisturbed one")


def attack_alias(attack: Attack, reference: Reference) -> None:
    """Start a second coordinator on the same storage under another name, while the first one runs."""
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
        attack.done.append("the first coordinator had ended already")
    elif code != 2 or "Traceback" in second.message():
        raise CheckFailedError(f"the second coordinator ended with exit code {code}:\n{second.message()[-2000:]}")
    first.expect(0)
    (attack.folder / "link.db").unlink(missing_ok=True)
    check_study(attack, reference)


def attack_race(attack: Attack, reference: Reference) -> None:
    """Start two coordinators of one study at once; one may be refused."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    both = [attack.start("run", "determinism.yaml") for _ in range(2)]
    codes = sorted(started.expect(0, 2) for started in both)
    attack.done.append(f"exit codes {codes}")
    if codes[0] != 0:
        raise CheckFailedError("neither of the two coordinators ran the study")
    check_study(attack, reference)


def attack_pair(attack: Attack, reference: Reference) -> None:
    """Start two studies at once in an empty folder."""
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
    """Run a study while other programs use every core."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    with attack.load(attack.rng.randint(2, 8)):
        attack.start("run", "determinism.yaml").expect(0)
    check_study(attack, reference)


def attack_mlflow(attack: Attack, reference: Reference) -> None:
    """Delete mlflow.db during a run, which must rewrite it or exit with code 3 and the cause; `sync` repairs it."""
    write_study(attack.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
    started = attack.start("run", "determinism.yaml")
    after_s = attack.moment(reference.durations_s["run"])
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.process.wait(after_s)
    for file in (attack.folder / "mlruns").glob("mlflow.db*"):
        file.unlink(missing_ok=True)
    during_run = n_ended(attack.folder / "mlruns" / "optuna.db") < N_TRIALS
    attack.done.append(f"mlflow.db deleted after {after_s:.1f} s, {'during the run' if during_run else 'at its end'}")
    if started.expect(0, 3) == 0 and during_run:
        check_study(attack, reference)
    attack.start("sync", "determinism").expect(0)
    check_study(attack, reference)


def n_ended(storage: Path) -> int:
    """Return the number of ended trials in a storage."""
    if not storage.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM trials WHERE state != 'RUNNING'").fetchone()[0]
        except sqlite3.OperationalError:  # Its tables do not exist yet.
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
