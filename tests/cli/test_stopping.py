"""After Ctrl-C, SIGTERM or kill -9, the same command continues a study to the same history."""

import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from command import Call, Folder, Killed, TooLateError, assert_refused, make_folder, retry_if_too_late, wait_until_gone


@pytest.mark.slow
def test_a_study_continues_after_ctrl_c_and_sigterm(
    tmp_path: Path, shared_tracking: str, status: dict[str, Any]
) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "stopped", shared_tracking)
        for stop, code in ((Call.send_ctrl_c, 130), (Call.terminate, 143)):
            run = folder.start("run", "small.yaml", "--workers", "1")
            run.suspend_after(r"^trial \d")
            stop(run)
            run.resume()
            outcome = run.wait()
            if outcome.code == 0:
                raise TooLateError
            assert outcome.code == code
            assert "Traceback" not in outcome.err
            assert "To continue: " in outcome.err
            assert outcome.err.rstrip().endswith("mnist-hpo run small.yaml --workers 1")
            assert outcome.out == ""
        return folder

    resumed = retry_if_too_late(attempt).run("--workers", "1")
    assert "already recorded" in resumed.err
    assert resumed.json()["history_sha256"] == status["history_sha256"]


@pytest.fixture
def hanging_server() -> Generator[str]:
    """A server that accepts connections and never answers, so that the process that writes MLflow hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_at_once(
    tmp_path: Path, hanging_server: str, shared_tracking: str, status: dict[str, Any]
) -> None:
    def attempt() -> Path:
        folder = make_folder(tmp_path, "stopped", hanging_server)
        run = folder.start("run", "small.yaml")
        run.suspend_after(r"^trial \d")
        processes = run.workers() + run.writers()
        run.send_ctrl_c()
        run.resume()
        run.wait_for("press again to end at once")
        run.send_ctrl_c()
        outcome = run.wait()
        assert outcome.code == 130
        if "To continue" in outcome.err:
            raise TooLateError  # The run ended before the second Ctrl-C.
        assert "Traceback" not in outcome.err
        wait_until_gone(processes)
        return folder.path

    resumed = Folder(retry_if_too_late(attempt), shared_tracking).run()
    assert resumed.json()["history_sha256"] == status["history_sha256"]


def test_all_processes_of_a_killed_coordinator_end(killed: Killed) -> None:
    # The fixture has waited for all of them to end.
    assert killed.n_workers >= 1
    assert killed.n_writers == 1


def test_a_killed_study_continues_to_the_same_history(killed: Killed, status: dict[str, Any]) -> None:
    assert killed.status_after_kill["state"] == "incomplete"
    assert "already recorded" in killed.resumed.err
    ended = killed.resumed.json()
    assert ended["history_sha256"] == status["history_sha256"]
    assert ended["n_trials"]["running"] == 0


def test_a_second_coordinator_is_refused_and_names_the_first(killed: Killed) -> None:
    host = socket.gethostname()
    assert_refused(killed.second_coordinator, f"process {killed.pid} on {host}, started 20")


@pytest.mark.slow
def test_killed_workers_do_not_change_the_results(
    tmp_path: Path, shared_tracking: str, status: dict[str, Any], trials: list[dict[str, Any]]
) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "worker", shared_tracking)
        run = folder.start("run", "small.yaml")
        run.suspend_after(r"^study small")
        for worker in run.workers():
            worker.kill()
        run.resume()
        outcome = run.wait()
        assert outcome.code == 0, outcome.err
        return folder

    assert retry_if_too_late(attempt).trials() == trials
