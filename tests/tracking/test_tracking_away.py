"""If MLflow is unreachable, failing or slow, a run continues and reports it once, and `sync` updates MLflow later."""

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from command import Folder, Outcome, TooLateError, assert_refused, make_folder, retry_if_too_late
from incomplete import package, run_incompletely
from mlflow import MlflowClient
from tracked import artifacts, assert_holds, parent_of, runs_of, trial_runs
from tracking_server import TrackingServer

CANNOT = "MLflow cannot be written"

# A real tracking server cannot be made to do this: every response is "500 Internal Server Error".
FAILING_SERVER = """
import http.server, sys
class Failing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(500)
    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def failing_server() -> Generator[str]:
    with subprocess.Popen([sys.executable, "-c", FAILING_SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("closed_port", marks=pytest.mark.slow),
        pytest.param("failing_server", marks=pytest.mark.slow),
        pytest.param("hanging_server", marks=pytest.mark.slow),
    ],
)
def test_a_run_continues_without_mlflow(
    folder: Folder, trials: list[dict[str, Any]], server: str, request: pytest.FixtureRequest
) -> None:
    outcome = run_incompletely(folder, MLFLOW_TRACKING_URI=request.getfixturevalue(server))
    assert outcome.err.count(CANNOT) == 1
    assert "0 of 8 runs are written: " in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.rstrip().endswith("mnist-hpo sync small")
    assert folder.trials() == trials

    assert folder.call("sync", "small").code == 0
    assert_holds(folder.tracking_uri, trials)
    best = trial_runs(runs_of(folder.tracking_uri))[json.loads(outcome.out)["best"]["number"]]
    assert "model" in artifacts(folder.tracking_uri, best)


@pytest.mark.slow
def test_a_killed_writer_process_is_restarted_and_writes_everything(
    tmp_path: Path, trials: list[dict[str, Any]]
) -> None:
    def attempt() -> tuple[Folder, Outcome]:
        folder = make_folder(tmp_path, "killed")
        run = folder.start("run", "small.yaml", "--workers", "1")
        run.suspend_after(r"^trial \d")
        (writer,) = run.writers()
        writer.kill()
        run.resume()
        outcome = run.wait()
        if "restarting it" not in outcome.err:
            raise TooLateError  # The run ended before the kill was noticed.
        return folder, outcome

    folder, outcome = retry_if_too_late(attempt)
    assert outcome.code == 0
    assert outcome.err.count(CANNOT) == outcome.err.count("killed by SIGKILL") == 1
    assert "Traceback" not in outcome.err
    assert folder.trials() == trials
    assert_holds(folder.tracking_uri, trials)
    assert parent_of(runs_of(folder.tracking_uri)).info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_continues_if_the_writer_process_keeps_dying(folder: Folder, trials: list[dict[str, Any]]) -> None:
    deadly = package(folder, "mlflow", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    outcome = run_incompletely(folder, PYTHONPATH=deadly)
    assert "0 of 8 runs are written: the process that writes MLflow keeps dying, killed by SIGKILL" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.rstrip().endswith("mnist-hpo sync small")
    assert folder.trials() == trials


def test_a_run_continues_and_reports_it_if_mlflow_cannot_be_imported(
    folder: Folder, trials: list[dict[str, Any]]
) -> None:
    outcome = run_incompletely(folder, PYTHONPATH=package(folder, "mlflow", "raise ImportError('broken package')"))
    assert outcome.err.count(CANNOT) == 1
    assert "0 of 8 runs are written: broken package" in outcome.err
    assert "Traceback" not in outcome.err
    assert folder.trials() == trials


def test_sync_and_retrain_are_refused_without_mlflow(finished: Folder, folder: Folder, closed_port: str) -> None:
    finished.copy_record(folder)
    before = folder.trials(), folder.files()
    for verb, uri in (("sync", closed_port), ("retrain", "sqlite:////proc/nowhere/mlflow.db")):
        assert_refused(folder.call(verb, "small", "--tracking-uri", uri), uri, "cannot be written")
    assert (folder.trials(), [file for file in folder.files() if ".locks" not in file]) == before


@pytest.mark.slow
def test_a_run_continues_while_a_real_server_is_stopped(
    folder: Folder, tracking_server: TrackingServer, trials: list[dict[str, Any]]
) -> None:
    run = folder.start("run", "small.yaml", MLFLOW_TRACKING_URI=tracking_server.url)
    run.suspend_after("^study small")
    tracking_server.stop()
    run.resume()
    outcome = run.wait()
    assert outcome.code == 3, outcome.err
    assert outcome.err.count(CANNOT) == 1
    assert folder.trials() == trials

    tracking_server.start()
    assert folder.call("sync", "small", "--tracking-uri", tracking_server.url).code == 0
    assert_holds(tracking_server.url, trials)
    assert parent_of(runs_of(tracking_server.url)).info.status == "FINISHED"
    best = folder.status()["best"]["number"]
    model = MlflowClient(tracking_server.url).list_artifacts(
        trial_runs(runs_of(tracking_server.url))[best].info.run_id, "model"
    )
    assert {Path(file.path).name for file in model} == {"model.json", "model.safetensors"}


@pytest.mark.slow
def test_a_study_can_use_a_real_server(
    folder: Folder, tracking_server: TrackingServer, trials: list[dict[str, Any]]
) -> None:
    """MLflow writes no database and no artifacts on the client's side."""
    assert CANNOT not in folder.run(MLFLOW_TRACKING_URI=tracking_server.url).err
    assert_holds(tracking_server.url, trials)
    figures = folder.call("retrain", "small", "--seeds", "1", "--json", MLFLOW_TRACKING_URI=tracking_server.url).json()
    version = MlflowClient(tracking_server.url).get_model_version_by_alias("small", "champion")
    assert version.version == figures["model_version"]
    assert not (folder.path / "mlruns" / "mlflow.db").exists()
    assert not (folder.path / "mlruns" / "artifacts").exists()
