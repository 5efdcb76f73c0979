"""The study file decides what is computed; the machine only how fast."""

import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from typing import Any

from command import LONG_S, PROGRAM, Folder


def test_twice_from_nothing_in_two_folders_by_two_workers_and_by_one(
    folder: Folder, status: dict[str, Any], trials: list[dict[str, Any]]
) -> None:
    ended = folder.run("--workers", "1").json()
    assert ended["history_sha256"] == status["history_sha256"]
    assert folder.trials() == trials


def test_begun_on_a_terminal_and_extended_in_a_pipe(folder: Folder, status: dict[str, Any]) -> None:
    folder.write_study("n_trials: 8", "n_trials: 2")
    code, shown = run_on_a_terminal(folder)
    assert code == 0
    assert "Traceback" not in shown
    assert "\x1b[" in shown, "a live picture moves the cursor"
    assert re.search(r"\d+ complete, \d+ pruned, \d+ failed", shown)
    assert "epochs/min on 2 workers" in shown
    assert "history_sha256" in shown

    folder.write_study()
    extended = folder.run()
    assert "2 of them recorded already" in extended.err
    assert extended.json()["history_sha256"] == status["history_sha256"]


def run_on_a_terminal(folder: Folder) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [PROGRAM, "run", "small.yaml", "--workers", "2"],
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
