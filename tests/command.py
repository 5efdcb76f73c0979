"""Run the real `mnist-hpo` command as a subprocess in a separate working folder."""

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).with_name("mnist-hpo")
TIMEOUT_S = 240.0
"""No test depends on timing: this only ends a process that hangs."""

SMALL = """\
name: small
description: a search of seconds that has trials of every kind
seed: 3
budget: {n_trials: 8, max_epochs: 3}
slots: 3
sampler: {name: tpe, n_startup_trials: 3}
pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 0}
space:
  # The largest rate makes every training diverge.
  learning_rate: {type: categorical, choices: [0.001, 0.05, 0.2, 1.0e+6]}
  l2: {type: float, low: 1.0e-7, high: 1.0e-3, log: true}
  width: {type: categorical, choices: [16, 32]}
fixed: {optimizer: sgd, batch_size: 512, depth: 1}
enqueue:
  - {learning_rate: 0.05, width: 32}
  - {learning_rate: 1.0e+6, width: 16}
"""

Result = TypeVar("Result")

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("JAX_", "XLA_", "MLFLOW_", "MNIST_HPO_", "PYTHONUNBUFFERED", "COLUMNS", "LINES"))
}
"""The environment of a user's shell: without the variables that the tests set for JAX, and without the terminal size
that pytest-xdist sets."""


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a finished `mnist-hpo` process."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class TooLateError(Exception):
    """The run finished before the test could interfere with it."""


class Call:
    """A running `mnist-hpo` process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._err: list[str] = []

    def wait_for(self, pattern: str) -> None:
        """Read standard error up to the first line that matches."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._err.append(line)
            if re.search(pattern, line):
                return
        raise AssertionError(f"no line of standard error matches {pattern!r}:\n{''.join(self._err)}")

    def suspend_after(self, pattern: str) -> None:
        """Send the coordinator SIGSTOP once a line of standard error matches, so that the test has time to act.

        Raises:
            TooLateError: the coordinator has ended already.

        """
        self.wait_for(pattern)
        self.process.send_signal(signal.SIGSTOP)
        if self.process.poll() is not None:
            raise TooLateError

    def send_ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        self.process.terminate()

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait(self) -> Outcome:
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return Outcome(self.process.returncode, out, "".join(self._err) + err)

    def workers(self) -> list[psutil.Process]:
        return self._children("mnist_hpo.executors.worker")

    def writers(self) -> list[psutil.Process]:
        """Return the MLflow writer process while it runs, as a list of one process or none."""
        return self._children("mnist_hpo.tracking.writer")

    def _children(self, module: str) -> list[psutil.Process]:
        return [child for child in psutil.Process(self.process.pid).children() if module in child.cmdline()]


class Folder:
    """A working folder with study files, in which `mnist-hpo` runs."""

    def __init__(self, path: Path, tracking_uri: str | None = None) -> None:
        self.path = path
        self._environment = {"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {}

    def write_study(self, *changes: str, name: str = "small.yaml") -> None:
        """Write `SMALL` to a file; `changes` are pairs of a text and its replacement."""
        text = SMALL
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self.path / name).write_text(text)

    def start(self, *arguments: str, **environment: str) -> Call:
        process = subprocess.Popen(
            [str(PROGRAM), *arguments],
            cwd=self.path,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Call(process)

    def call(self, *arguments: str, **environment: str) -> Outcome:
        return self.start(*arguments, **environment).wait()

    def call_on_terminal(self, columns: int, *arguments: str) -> str:
        """Run a command on a pseudo-terminal of `columns` columns; return its output without escape sequences."""
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        with os.fdopen(controller, "rb") as screen:
            process = subprocess.Popen(
                [str(PROGRAM), *arguments],
                cwd=self.path,
                env=self.environment(TERM="xterm-256color"),
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            )
            os.close(terminal)
            written = bytearray()
            with contextlib.suppress(OSError):  # Linux raises EIO when no process has the terminal open any more.
                while part := screen.read1(65536):  # type: ignore[attr-defined]
                    written += part
            assert process.wait(TIMEOUT_S) == 0, written
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())

    def run(self, *options: str, **environment: str) -> Outcome:
        """Run the study to its end; the outcome's standard output is JSON."""
        outcome = self.call("run", "small.yaml", "--json", *options, **environment)
        assert outcome.code == 0, outcome.err
        return outcome

    def environment(self, **more: str) -> dict[str, str]:
        return ENVIRONMENT | self._environment | more

    def status(self) -> dict[str, Any]:
        return self.call("status", "small", "--json").json()

    def trials(self) -> list[dict[str, Any]]:
        return self.call("trials", "small", "--json").json()

    def files(self) -> list[str]:
        """Return the sorted relative paths of everything under `mlruns`."""
        return sorted(str(path.relative_to(self.path)) for path in (self.path / "mlruns").rglob("*"))

    @property
    def tracking_uri(self) -> str:
        """The URI of the folder's default MLflow store."""
        return f"sqlite:///{self.path}/mlruns/mlflow.db"

    @property
    def storage(self) -> Path:
        return self.path / "mlruns" / "optuna.db"

    def copy_record(self, other: "Folder", *databases: str) -> None:
        """Copy the study file and the databases (by default the storage) to another folder."""
        (other.path / "mlruns").mkdir()
        shutil.copy(self.path / "small.yaml", other.path)
        for name in databases or ["optuna.db"]:
            source, target = (sqlite3.connect(folder.path / "mlruns" / name) for folder in (self, other))
            with contextlib.closing(source), contextlib.closing(target):
                source.backup(target)
                if name == "mlflow.db":
                    self._copy_artifacts(other, target)

    def _copy_artifacts(self, other: "Folder", copied: sqlite3.Connection) -> None:
        """Copy the artifacts too, and change their absolute paths in the copied MLflow database."""
        shutil.copytree(self.path / "mlruns" / "artifacts", other.path / "mlruns" / "artifacts")
        tables = {
            "experiments": "artifact_location",
            "runs": "artifact_uri",
            "logged_models": "artifact_location",
            "model_versions": "source",
        }
        for table, column in tables.items():
            copied.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(self.path), str(other.path)))
        copied.commit()


def make_folder(base: Path, name: str, tracking_uri: str | None = None) -> Folder:
    """Create a new working folder with the study file."""
    folder = Folder(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base)), tracking_uri)
    folder.write_study()
    return folder


@functools.cache
def finished_small(base: Path) -> Folder:
    """Return a folder in which the study ran once, with default options; shared by all tests, read only."""
    folder = make_folder(base, "finished")
    (folder.path / "run.json").write_text(folder.run().out)
    return folder


@functools.cache
def retrained_small(base: Path) -> Folder:
    """Return a copy of the finished study with its best trial re-trained with two seeds; shared, read only."""
    folder = make_folder(base, "retrained")
    finished_small(base).copy_record(folder, "optuna.db", "mlflow.db")
    outcome = folder.call("retrain", "small", "--seeds", "2", "--json")
    assert outcome.code == 0, outcome.err
    (folder.path / "champion.json").write_text(outcome.out)
    (folder.path / "retrain.err").write_text(outcome.err)
    return folder


@dataclass(frozen=True)
class Killed:
    """A study whose coordinator was killed with `kill -9`, then continued by the same command."""

    folder: Folder
    pid: int
    n_workers: int
    n_writers: int
    second_coordinator: Outcome
    """The outcome of a second coordinator, started while the first one ran."""
    status_after_kill: dict[str, Any]
    resumed: Outcome


@functools.cache
def killed_small(base: Path) -> Killed:
    """Return the study with its coordinator killed midway; shared by all tests, read only."""

    def attempt() -> Killed:
        folder = make_folder(base, "killed")
        run = folder.start("run", "small.yaml")
        run.suspend_after(r"^trial \d")
        second = folder.call("run", "small.yaml")
        workers, writers = run.workers(), run.writers()
        run.process.kill()
        run.wait()
        wait_until_gone(workers + writers)
        status_after_kill = folder.status()
        if status_after_kill["state"] == "complete":
            raise TooLateError
        return Killed(
            folder, run.process.pid, len(workers), len(writers), second, status_after_kill, folder.run("--workers", "1")
        )

    return retry_if_too_late(attempt)


def retry_if_too_late(attempt: Callable[[], Result]) -> Result:
    """Repeat an attempt to interfere with a run, up to five times, while the run finishes too early."""
    for _ in range(4):
        try:
            return attempt()
        except TooLateError:
            continue
    return attempt()


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Wait until all processes have ended; a zombie counts as ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while alive := [process for process in processes if _is_alive(process)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.05)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_refused(outcome: Outcome, *fragments: str) -> None:
    """Assert exit code 2, one error message with these fragments, and no other output."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("error: ") == 1
    assert "Traceback" not in outcome.err
    for fragment in fragments:
        assert fragment in outcome.err
