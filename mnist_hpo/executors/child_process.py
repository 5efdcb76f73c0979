"""Child processes that run a Python module, with a connection to the parent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO

_EXIT_S = 5.0


@dataclass(frozen=True)
class ChildProcess:
    """A running child process, as seen by its parent."""

    process: subprocess.Popen[bytes]
    connection: Connection
    errors: IO[bytes]
    """Its standard output and standard error."""

    def reap(self) -> str:
        """Wait for its exit, kill it if it takes too long, and release its resources.

        Returns:
            The reason of its end, in a few words.

        """
        self.connection.close()
        try:
            code = self.process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        with self.errors:
            return _exit_reason(code, self.errors)


def start_child(
    module: str,
    *arguments: object,
    inherited_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    process_group: int | None = None,
) -> ChildProcess:
    """Run a module in a child process.

    Args:
        module: its name; the first command-line argument that it gets is the file descriptor of its connection.
        arguments: more command-line arguments.
        inherited_fds: more file descriptors that it inherits.
        environment: its environment; by default that of this process.
        process_group: 0 for a new process group, which a terminal's Ctrl-C does not reach.

    """
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `reap`)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=(theirs.fileno(), *inherited_fds),
            env=environment,
            process_group=process_group,
        )
    return ChildProcess(process, Connection(ours.detach()), errors)


def _exit_reason(code: int, errors: IO[bytes]) -> str:
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (the system does so when memory runs out)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no message'}"
