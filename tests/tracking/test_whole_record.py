"""At the end of a run MLflow's record is complete, or the run says what is missing and why, with exit code 3."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import TIMEOUT_S, Call, Folder, Outcome, TooLateError, make_folder, retry_if_too_late
from incomplete import package, run_incompletely
from mlflow import MlflowClient
from mlflow.entities import ViewType
from test_projection import n_trial_runs
from tracked import artifacts, assert_holds, parent_of, runs_of, trial_runs
from tracking_server import TrackingServer

from mnist_hpo.api.studies import recorded_study
from mnist_hpo.runner import projected
from mnist_hpo.tracking.projection import Projection

LAST_TRIAL = r"\(8/8 done"


def assert_complete(tracking_uri: str, trials: list[dict[str, Any]], *, best: int | None = None) -> None:
    assert_holds(tracking_uri, trials)
    runs = runs_of(tracking_uri)
    parent = parent_of(runs)
    assert parent.info.status == "FINISHED"
    assert artifacts(tracking_uri, parent) == {"study.yaml", "trials.csv", "plots.html", "plots.png"}
    assert sum("model" in artifacts(tracking_uri, run) for run in trial_runs(runs).values()) == 1


def writer_of(run: Call) -> psutil.Process:
    """Return the process that writes MLflow, while the coordinator is suspended.

    Raises:
        TooLateError: the process has ended already.

    """
    if not (writers := run.writers()):
        raise TooLateError
    return writers[0]


@pytest.mark.slow
def test_a_writer_killed_after_the_last_trial_is_restarted(tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    folder = make_folder(tmp_path, "killed")
    run = folder.start("run", "small.yaml")
    run.suspend_after(LAST_TRIAL)
    writer_of(run).kill()
    run.resume()
    outcome = run.wait()
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("killed by SIGKILL") == 1
    assert_complete(folder.tracking_uri, trials)


@pytest.mark.slow
def test_a_deleted_database_is_rebuilt_from_the_storage(tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    folder = make_folder(tmp_path, "deleted")
    run = folder.start("run", "small.yaml")
    run.suspend_after(LAST_TRIAL)
    deadline = time.monotonic() + TIMEOUT_S
    while n_trial_runs(folder) < 1:  # The writer still processes the messages that it was sent.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder.path / "mlruns" / "mlflow.db").unlink()
    run.resume()
    outcome = run.wait()
    assert outcome.code == 0, outcome.err
    assert "mlruns/mlflow.db was deleted or replaced" in outcome.err
    assert_complete(folder.tracking_uri, trials)


@pytest.mark.slow
def test_plots_that_cannot_be_drawn_do_not_affect_the_rest_of_the_record(
    folder: Folder, trials: list[dict[str, Any]]
) -> None:
    outcome = run_incompletely(folder, PYTHONPATH=package(folder, "plotly", "raise ImportError('broken package')"))
    assert "the plots cannot be drawn: " in outcome.err
    assert "broken package" in outcome.err
    assert_holds(folder.tracking_uri, trials)
    assert parent_of(runs_of(folder.tracking_uri)).info.status == "FINISHED"
    assert "model" in artifacts(folder.tracking_uri, best_run(folder.tracking_uri, outcome))

    sync = folder.call("sync", "small", PYTHONPATH=package(folder, "matplotlib", "raise ImportError('broken')"))
    assert sync.code == 3
    assert "the plots cannot be drawn: " in sync.err
    assert folder.call("sync", "small").code == 0
    assert_complete(folder.tracking_uri, trials)


@pytest.mark.slow
def test_a_writer_killed_by_drawing_plots_does_not_affect_the_rest_of_the_record(
    folder: Folder, trials: list[dict[str, Any]]
) -> None:
    deadly = package(folder, "plotly", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    outcome = run_incompletely(folder, PYTHONPATH=deadly)
    assert "all 8 runs are written, but not everything in them" in outcome.err
    assert "keeps dying, killed by SIGKILL" in outcome.err
    assert_holds(folder.tracking_uri, trials)
    assert parent_of(runs_of(folder.tracking_uri)).info.status == "FINISHED"


def best_run(tracking_uri: str, outcome: Outcome) -> Any:
    return trial_runs(runs_of(tracking_uri))[json.loads(outcome.out)["best"]["number"]]


def test_ctrl_c_ends_waiting_for_mlflow(folder: Folder, hanging_server: str, trials: list[dict[str, Any]]) -> None:
    run = folder.start("run", "small.yaml", "--tracking-uri", hanging_server)
    run.wait_for("writing to MLflow: 0 of 8 runs written")
    run.send_ctrl_c()
    outcome = run.wait()
    assert outcome.code == 3, outcome
    assert "0 of 8 runs are written: the wait for the rest was ended" in outcome.err
    assert outcome.err.rstrip().endswith(f"mnist-hpo sync small --tracking-uri {hanging_server}")
    assert folder.trials() == trials


def test_an_interrupted_run_reports_what_is_missing_in_mlflow(folder: Folder, closed_port: str) -> None:
    run = folder.start("run", "small.yaml", MLFLOW_TRACKING_URI=closed_port)
    run.suspend_after(r"^trial \d")
    run.send_ctrl_c()
    run.resume()
    outcome = run.wait()
    if outcome.code == 3:
        pytest.skip("the run ended before the signal")
    assert outcome.code == 130, outcome
    assert "MLflow does not hold all of the study: 0 of " in outcome.err


@pytest.mark.slow
def test_temporary_files_of_a_killed_process_are_removed(finished: Folder, folder: Folder) -> None:
    finished.copy_record(folder, "optuna.db")
    mlruns = folder.path / "mlruns"
    left = ["mlflow.db.4194999.new", "mlflow.db.4194999.new-journal", "mlflow.db.new"]
    for name in [*left, "mlflow.db.newer"]:
        (mlruns / name).write_bytes(b"half a database")
    assert folder.call("sync", "small").code == 0
    assert not [name for name in left if (mlruns / name).exists()]
    assert (mlruns / "mlflow.db.newer").exists()
    # They are removed even if the database exists.
    (mlruns / left[0]).write_bytes(b"half a database")
    assert folder.call("sync", "small").code == 0
    assert not (mlruns / left[0]).exists()


@pytest.mark.slow
def test_the_write_ahead_log_of_a_deleted_database_is_not_applied_to_a_new_one(
    finished: Folder, folder: Folder, trials: list[dict[str, Any]]
) -> None:
    finished.copy_record(folder, "optuna.db")
    assert folder.call("sync", "small").code == 0
    database = folder.path / "mlruns" / "mlflow.db"
    # A killed process leaves its write-ahead log.
    write = "import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1]); c.execute('CREATE TABLE other (x)'); c.commit()"
    subprocess.run([sys.executable, "-c", f"{write}; os._exit(0)", str(database)], check=True)
    assert database.with_name("mlflow.db-wal").stat().st_size > 0
    database.unlink()
    assert folder.call("sync", "small").code == 0
    assert_holds(folder.tracking_uri, trials)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert not connection.execute("SELECT name FROM sqlite_master WHERE name = 'other'").fetchall()


def test_missing_and_wrong_runs_are_found_and_repaired(
    finished: Folder, folder: Folder, trials: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.copy_record(folder, "optuna.db", "mlflow.db")
    client = MlflowClient(folder.tracking_uri)
    runs = trial_runs(runs_of(folder.tracking_uri))
    client.delete_run(runs[2].info.run_id)
    client.update_run(runs[5].info.run_id, "RUNNING")
    client.update_run(parent_of(runs_of(folder.tracking_uri)).info.run_id, "RUNNING")

    record, file = recorded_study(f"sqlite:///{folder.storage}", "small")
    projection = Projection(projected(record, file.study, folder.tracking_uri))
    projection.open(record.trials())
    ended = runs[5].info.status
    assert projection.missing(record.trials()) == (
        f"trial 2 has no run, the run of trial 5 is RUNNING, not {ended}, the run of the study is RUNNING, not FINISHED"
    )
    record.close()

    assert folder.call("sync", "small").code == 0
    active = client.search_runs([projection.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)
    assert sorted(trial_runs(active)) == [trial["number"] for trial in trials]
    assert "RUNNING" not in {run.info.status for run in active}


CHECK_STATE = """
import os, sys
import mlflow
mlflow.set_tracking_uri("sqlite:///own.db")
own = mlflow.start_run()
before = dict(os.environ)
from mnist_hpo.cli.main import app
assert app(sys.argv[1:], standalone_mode=False) == 0
changed = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
assert not {name for name in changed if name.startswith("MLFLOW_")}, changed
assert mlflow.get_tracking_uri() == "sqlite:///own.db"
assert mlflow.active_run().info.run_id == own.info.run_id
mlflow.end_run()
assert [run.info.run_id for run in mlflow.search_runs(search_all_experiments=True, output_format="list")] == [
    own.info.run_id
]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(["sync", "small"], id="sync"),
        pytest.param(["retrain", "small", "--seeds", "1"], id="retrain", marks=pytest.mark.slow),
    ],
)
def test_mlflows_state_in_the_callers_process_is_unchanged(finished: Folder, folder: Folder, verb: list[str]) -> None:
    finished.copy_record(folder, "optuna.db")
    done = subprocess.run(
        [sys.executable, "-c", CHECK_STATE, *verb, "--tracking-uri", "sqlite:///mlruns/mlflow.db"],
        cwd=folder.path,
        env=folder.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["database", "server"])
def store(request: pytest.FixtureRequest) -> str | None:
    """The URL of a real server, or None for the folder's own database."""
    if request.param == "database":
        return None
    server: TrackingServer = request.getfixturevalue("tracking_server")
    return server.url


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_writer_killed_at_random_times(tmp_path: Path, store: str | None, trials: list[dict[str, Any]]) -> None:
    rng = random.Random(0)
    for n_round in range(6):
        folder = make_folder(tmp_path, "killed", store)
        folder.write_study("name: small", f"name: small-{n_round}")
        run = folder.start("run", "small.yaml")
        run.wait_for("^study small" if n_round % 2 else LAST_TRIAL)
        n_kills = 0
        while run.process.poll() is None and n_kills < 3:
            time.sleep(rng.uniform(0.0, 4.0))
            for writer in run.writers() if run.process.poll() is None else []:
                writer.kill()
                n_kills += 1
        assert_complete_or_reported(run.wait(), store or folder.tracking_uri, f"small-{n_round}", trials)


def assert_complete_or_reported(outcome: Outcome, tracking_uri: str, study: str, trials: list[dict[str, Any]]) -> None:
    assert "Traceback" not in outcome.err
    if outcome.code == 3:
        assert "MLflow does not hold all of the study: " in outcome.err
        return
    assert outcome.code == 0, outcome.err
    runs = runs_of(tracking_uri, study)
    assert parent_of(runs).info.status == "FINISHED"
    by_number = trial_runs(runs)
    words = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    assert {number: run.info.status for number, run in by_number.items()} == {
        trial["number"]: words[trial["state"]] for trial in trials
    }


@pytest.fixture
def busy_machine() -> Generator[None]:
    """Run two busy loops per core."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_records_are_complete_on_a_busy_machine(
    tmp_path: Path, store: str | None, busy_machine: None, trials: list[dict[str, Any]]
) -> None:
    for n_pair in range(2):
        names = [f"small-{n_pair}{letter}" for letter in "ab"]
        folders = [make_folder(tmp_path, name, store) for name in names]
        for folder, name in zip(folders, names, strict=True):
            folder.write_study("name: small", f"name: {name}")
        runs = [folder.start("run", "small.yaml") for folder in folders]
        for folder, name, run in zip(folders, names, runs, strict=True):
            assert_complete_or_reported(run.wait(), store or folder.tracking_uri, name, trials)


@pytest.mark.slow
def test_a_suspended_writer_is_replaced(tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    def attempt() -> tuple[Folder, Outcome]:
        folder = make_folder(tmp_path, "stopped")
        run = folder.start("run", "small.yaml")
        run.suspend_after(LAST_TRIAL)
        writer_of(run).send_signal(signal.SIGSTOP)
        run.resume()
        return folder, run.wait()

    folder, outcome = retry_if_too_late(attempt)
    assert outcome.code == 0, outcome.err
    assert_complete(folder.tracking_uri, trials)
