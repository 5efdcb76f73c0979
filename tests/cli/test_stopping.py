"""Stopped and killed in every way, a study goes on with the same command and comes to the same history."""

import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from command import Call, Folder, Killed, TooLateError, assert_refused, in_time, make_folder, wait_until_gone


def test_ctrl_c_and_sigterm(tmp_path: Path, shared_tracking: str, status: dict[str, Any]) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "stopped", shared_tracking)
        for stop, code in ((Call.press_ctrl_c, 130), (Call.terminate, 143)):
            run = folder.start("run", "small.yaml", "--workers", "1")
            run.freeze_after(r"^trial \d")
            stop(run)
            run.thaw()
            outcome = run.end()
            if outcome.code == 0:
                raise TooLateError
            assert outcome.code == code
            assert "Traceback" not in outcome.err
            assert "To continue: " in outcome.err
            assert outcome.err.rstrip().endswith("mnist-hpo run small.yaml --workers 1")
            assert outcome.out == ""
        return folder

    resumed = in_time(attempt).run("--workers", "1")
    assert "already recorded" in resumed.err
    assert resumed.json()["history_sha256"] == status["history_sha256"]


@pytest.fixture
def hanging_server() -> Generator[str]:
    """A server that takes every connection and never answers: whoever ends its business with it first waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(
    tmp_path: Path, hanging_server: str, shared_tracking: str, status: dict[str, Any]
) -> None:
    def attempt() -> Path:
        folder = make_folder(tmp_path, "stopped", hanging_server)
        run = folder.start("run", "small.yaml")
        run.freeze_after(r"^trial \d")
        processes = run.workers() + run.writers()
        run.press_ctrl_c()
        run.thaw()
        run.wait_for("press again to end at once")
        run.press_ctrl_c()
        outcome = run.end()
        assert outcome.code == 130
        if "To continue" in outcome.err:
            raise TooLateError  # The first one's way to its end was over already.
        assert "Traceback" not in outcome.err
        wait_until_gone(processes)
        return folder.path

    resumed = Folder(in_time(attempt), shared_tracking).run()
    assert resumed.json()["history_sha256"] == status["history_sha256"]


def test_a_killed_coordinator_takes_its_processes_along(killed: Killed) -> None:
    # All of them have ended, or the fixture would still wait.
    assert killed.n_workers >= 1
    assert killed.n_writers == 1


def test_a_killed_study_goes_on_to_the_same_end(killed: Killed, status: dict[str, Any]) -> None:
    assert killed.left_behind["state"] == "incomplete"
    assert "already recorded" in killed.resumed.err
    ended = killed.resumed.json()
    assert ended["history_sha256"] == status["history_sha256"]
    assert ended["n_trials"]["running"] == 0


def test_a_second_coordinator_is_told_of_the_first(killed: Killed) -> None:
    host = socket.gethostname()
    assert_refused(killed.second, f"process {killed.pid} on {host}, started 20")


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(
    tmp_path: Path, shared_tracking: str, status: dict[str, Any], trials: list[dict[str, Any]]
) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "worker", shared_tracking)
        run = folder.start("run", "small.yaml")
        run.freeze_after(r"^study small")
        for worker in run.workers():
            worker.kill()
        run.thaw()
        outcome = run.end()
        assert outcome.code == 0, outcome.err
        return folder

    assert in_time(attempt).trials() == trials
