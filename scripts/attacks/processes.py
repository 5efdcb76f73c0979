"""An attack's folder and processes: start the real command, kill one of its processes, put load on the machine."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psutil
from proving import COMMAND, CheckFailedError, children, environment, is_alive, running, wait_until_gone

MARK = "MNIST_HPO_ATTACK"
"""An environment variable that every process of an attack inherits, by which orphans are found."""
TIMEOUT_S = 600.0
"""A command that takes longer than this hangs; every command normally ends in a tenth of this time."""
TEMPORARY = (".new", ".tmp", ".partial", ".old")


@dataclass
class Started:
    """A started `mnist-hpo` process."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]
    errors: Path

    def wait(self) -> int:
        """Wait until the process ends; return the exit code."""
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise CheckFailedError(f"hangs: {' '.join(self.arguments)}") from None

    def message(self) -> str:
        """Return what the process wrote to standard error."""
        return self.errors.read_text(errors="replace")

    def expect(self, *codes: int) -> int:
        """Wait until the process ends; return the exit code, which must be one of `codes`, without a traceback."""
        code = self.wait()
        message = self.message()
        if code not in codes or "Traceback" in message:
            raise CheckFailedError(f"exit code {code} of {' '.join(self.arguments)}:\n{message[-2000:]}")
        return code


class Attack:
    """One attack's folder, its random numbers and its processes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.done: list[str] = []
        """The actions of the attack, for the printed line."""
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
        return Started(arguments, process, errors)

    def moment(self, duration_s: float) -> float:
        """Return a random time, in seconds, within something that takes about `duration_s`."""
        return self.rng.uniform(0.05, 1.05) * duration_s

    def processes(self) -> list[psutil.Process]:
        """Return all running processes of this attack, including orphans."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._id and is_alive(process):
                    found.append(process)
        return found

    def kill(self, started: Started, victim: str, after_s: float) -> bool:
        """Kill the victim after a delay, unless the run has ended; return whether the coordinator was killed."""
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
        """Run `n` busy loops."""
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
        self.done.append(f"{n} busy loops")
        try:
            yield
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()

    def check_clean(self) -> None:
        """Check that no process and no temporary file is left."""
        wait_until_gone(self.processes())
        left = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if is_temporary(path)]
        if left:
            raise CheckFailedError(f"left behind: {', '.join(sorted(left))}")

    def clean_up(self) -> None:
        """Kill all remaining processes, so that a failed attack does not affect the next one."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def is_temporary(path: Path) -> bool:
    """Return whether a file or folder is temporary, which a finished command must not leave."""
    return any(mark in path.name for mark in TEMPORARY)
