"""`status --watch` shows a running study, and no reader of the storage ever delays the run."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Call, Folder, TooLateError, assert_refused, make_folder, retry_if_too_late

READER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM trials").fetchone()[0], file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_suspended_readers_do_not_block_a_run(tmp_path: Path, shared_tracking: str, status: dict[str, Any]) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "watched", shared_tracking)
        run = folder.start("run", "small.yaml", "--workers", "1", "--json")
        run.suspend_after(r"^study small")
        watching = folder.start("status", "small", "--watch", PYTHONUNBUFFERED="1")
        assert watching.process.stdout is not None
        assert watching.process.stdout.readline().startswith("small: ")
        holding = subprocess.Popen(
            [sys.executable, "-c", READER, str(folder.storage)], stderr=subprocess.PIPE, text=True
        )
        try:
            assert holding.stderr is not None
            n_trials = int(holding.stderr.readline())
            for process in (holding, watching.process):
                process.send_signal(signal.SIGSTOP)
            if n_trials == 8:
                raise TooLateError
            run.resume()
            ended = run.wait()
            assert ended.code == 0, ended.err
            assert ended.json()["history_sha256"] == status["history_sha256"]
            assert holding.poll() is None
            # The resumed `status --watch` notices that the study is complete, and exits.
            watching.resume()
            woken = watching.wait()
            assert woken.code == 0
            assert status["history_sha256"] in woken.out
            assert "small: 8/8 trials" in woken.out
        finally:
            for process in (holding, watching.process):
                process.kill()
            holding.wait()
        return folder

    folder = retry_if_too_late(attempt)
    with sqlite3.connect(folder.storage) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_ctrl_c_ends_watching_and_leaves_the_study_unchanged(tmp_path: Path, finished: Folder) -> None:
    """The study has one trial left in its budget, and no process runs it."""
    folder = make_folder(tmp_path, "watched")
    finished.copy_record(folder)
    with sqlite3.connect(folder.storage) as connection:
        connection.execute(
            "UPDATE study_user_attributes SET value_json = replace(value_json, 'n_trials: 8', 'n_trials: 9')"
        )
    watching: Call = folder.start("status", "small", "--watch", PYTHONUNBUFFERED="1")
    assert watching.process.stdout is not None
    line = watching.process.stdout.readline()
    assert line.startswith(f"small: 8/9 trials, {finished.status()['n_epochs']} epochs, best #")
    os.killpg(watching.process.pid, signal.SIGINT)
    ended = watching.wait()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert folder.status()["state"] == "incomplete"


def test_a_complete_study_is_shown_once(finished: Folder, status: dict[str, Any]) -> None:
    outcome = finished.call("status", "small", "--watch")
    assert outcome.code == 0
    assert "small: 8/8 trials" in outcome.out
    assert status["history_sha256"] in outcome.out


def test_watching_with_json_is_refused(finished: Folder) -> None:
    assert_refused(finished.call("status", "small", "--watch", "--json"), "--watch", "--json")
