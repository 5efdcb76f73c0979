"""The study file decides what is computed; the machine only how fast."""

import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from typing import Any

import pytest
from command import LONG_S, PROGRAM, Folder


def test_in_another_folder_on_a_terminal_with_one_worker(
    folder: Folder, status: dict[str, Any], trials: list[dict[str, Any]]
) -> None:
    """The same study ran before in a pipe, with a worker on each core."""
    code, shown = run_on_a_terminal(folder, "run", "small.yaml", "--workers", "1")
    assert code == 0
    assert "Traceback" not in shown
    assert "\x1b[" in shown, "a live picture moves the cursor"
    assert re.search(r"\d+ complete, \d+ pruned, \d+ failed", shown)
    assert "epochs/min on 1 worker" in shown
    assert "history_sha256" in shown
    assert folder.status()["history_sha256"] == status["history_sha256"]
    assert folder.trials() == trials


@pytest.mark.slow
@pytest.mark.parametrize("n_first", [1, 5])
def test_extended(folder: Folder, status: dict[str, Any], n_first: int) -> None:
    folder.write_study("n_trials: 8", f"n_trials: {n_first}")
    first = folder.run().json()
    assert sum(first["n_trials"].values()) == n_first
    assert first["history_sha256"] != status["history_sha256"]

    folder.write_study()
    extended = folder.run()
    assert f"{n_first} of them already recorded" in extended.err
    assert extended.json()["history_sha256"] == status["history_sha256"]


def run_on_a_terminal(folder: Folder, *arguments: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=folder.path,
        env=folder.environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # which is how a terminal tells that its last user has gone
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    return process.wait(LONG_S), shown.decode()
