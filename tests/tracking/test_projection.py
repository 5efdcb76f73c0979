"""After a run, MLflow's record of the study agrees with the storage."""

import csv
import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ROOT, SMALL, Folder, Killed, TooLateError, make_folder, retry_if_too_late
from mlflow import MlflowClient
from tracked import artifacts, assert_holds, history, parent_of, runs_of, snapshot, trial_runs

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset


def test_a_study_has_one_parent_run_and_one_nested_run_per_trial(
    finished: Folder, trials: list[dict[str, Any]]
) -> None:
    assert_holds(finished.tracking_uri, trials)
    assert len(runs_of(finished.tracking_uri)) == 1 + 8
    assert parent_of(runs_of(finished.tracking_uri)).info.status == "FINISHED"


def test_every_epochs_metrics_are_logged(finished: Folder, trials: list[dict[str, Any]]) -> None:
    runs = trial_runs(runs_of(finished.tracking_uri))
    with sqlite3.connect(finished.storage) as connection:
        results = connection.execute(
            "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) WHERE key LIKE 'epoch:%'"
        ).fetchall()
    stored = {(number, json.loads(text)["epoch"]): json.loads(text) for number, text in results}
    assert len(stored) == sum(len(trial["valid_loss"]) for trial in trials)
    for metric in ("train_loss", "valid_loss", "valid_accuracy"):
        tracked = {
            (number, epoch): value
            for number, run in runs.items()
            for epoch, value in history(finished.tracking_uri, run, metric).items()
        }
        assert tracked == {key: result[metric] for key, result in stored.items()}
    epoch_s = history(finished.tracking_uri, runs[0], "epoch_s")
    assert list(epoch_s) == [1, 2, 3]
    assert min(epoch_s.values()) > 0


def test_final_states_of_trials_are_logged(finished: Folder, trials: list[dict[str, Any]]) -> None:
    runs = trial_runs(runs_of(finished.tracking_uri))
    words = {"complete": ("FINISHED", "COMPLETE"), "pruned": ("KILLED", "PRUNED"), "failed": ("FAILED", "FAILED")}
    for trial in trials:
        run = runs[trial["number"]]
        assert (run.info.status, run.data.tags["trial.state"]) == words[trial["state"]]
        assert run.data.tags.get("trial.reason") == trial["reason"]


def test_all_hyperparameters_are_logged(finished: Folder, trials: list[dict[str, Any]]) -> None:
    runs = trial_runs(runs_of(finished.tracking_uri))
    for trial in trials:
        run = runs[trial["number"]]
        searched = {name: str(value) for name, value in trial["params"].items()}
        fixed = {"optimizer": "sgd", "batch_size": "512", "depth": "1"}
        assert run.data.params | searched | fixed | {"dropout": "0.0"} == run.data.params


def test_the_parent_run_has_the_provenance(finished: Folder, mnist: PreparedDataset) -> None:
    parent = parent_of(runs_of(finished.tracking_uri))
    client = MlflowClient(finished.tracking_uri)
    assert Path(client.download_artifacts(parent.info.run_id, "study.yaml")).read_text() == SMALL
    tags = parent.data.tags
    assert tags["mnist_hpo.dataset_digest"] == mnist.digest
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", tags["mnist_hpo.git_commit"])
    known = subprocess.run(["git", "cat-file", "-t", tags["mnist_hpo.git_commit"][:40]], cwd=ROOT, capture_output=True)
    assert known.stdout == b"commit\n"
    for package in ("jax", "flax", "optax", "optuna", "numpy", "python"):
        assert re.match(r"\d+\.\d+", tags[f"mnist_hpo.version.{package}"])


def test_the_parent_run_has_the_progress_of_the_search(
    finished: Folder, trials: list[dict[str, Any]], tmp_path: Path
) -> None:
    parent = parent_of(runs_of(finished.tracking_uri))
    assert artifacts(finished.tracking_uri, parent) == {"study.yaml", "trials.csv", "plots.html", "plots.png"}
    table = MlflowClient(finished.tracking_uri).download_artifacts(parent.info.run_id, "trials.csv", str(tmp_path))
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    assert [row["state"] for row in rows] == [trial["state"] for trial in trials]
    values = [trial["value"] for trial in trials if trial["state"] == "complete"]
    best = history(finished.tracking_uri, parent, "best_valid_loss")
    assert list(best.values()) == sorted(best.values(), reverse=True)
    assert best[8] == min(values)
    assert history(finished.tracking_uri, parent, "n_complete")[8] == len(values)
    assert list(history(finished.tracking_uri, parent, "n_complete")) == list(range(1, 9))


def test_the_experiment_has_tags_with_state_and_best_loss(finished: Folder, trials: list[dict[str, Any]]) -> None:
    experiment = MlflowClient(finished.tracking_uri).get_experiment_by_name("small")
    assert experiment is not None
    best = min(trial["value"] for trial in trials if trial["state"] == "complete")
    assert (experiment.tags["state"], experiment.tags["trials"]) == ("complete", "8 of 8")
    assert experiment.tags["best_valid_loss"] == f"{best:.5f}"
    assert "a search of seconds" in experiment.tags["mlflow.note.content"]


def test_the_dataset_is_logged_with_its_digest(finished: Folder, mnist: PreparedDataset) -> None:
    (used,) = parent_of(runs_of(finished.tracking_uri)).inputs.dataset_inputs
    assert used.dataset.name == "mnist-standard-search"
    assert mnist.digest.startswith(used.dataset.digest)
    assert len(used.dataset.digest) >= 32
    assert json.loads(used.dataset.profile) == {"n_train": 50_000, "n_valid": 10_000, "sha256": mnist.digest}


def test_trials_can_be_sorted_by_their_results(finished: Folder, trials: list[dict[str, Any]]) -> None:
    runs = trial_runs(runs_of(finished.tracking_uri))
    for trial in trials:
        run, losses = runs[trial["number"]], trial["valid_loss"].values()
        assert run.data.metrics.get("best_valid_loss") == min(losses, default=None)
        assert run.data.metrics["epochs"] == len(losses)
        assert (run.data.metrics["train_tflop"] > 0) == bool(losses)
        width = trial["params"]["width"]
        assert run.data.metrics["model_parameters"] == 784 * width + width + width * 10 + 10


def test_the_best_model_is_logged_and_has_the_recorded_loss(
    finished: Folder, trials: list[dict[str, Any]], mnist: PreparedDataset, tmp_path: Path
) -> None:
    best = min((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["value"])
    assert_model_has_loss(best["value"], finished.tracking_uri, best["number"], mnist, tmp_path)
    runs = trial_runs(runs_of(finished.tracking_uri))
    with_model = [number for number, run in runs.items() if "model" in artifacts(finished.tracking_uri, run)]
    assert with_model == [best["number"]]


def assert_model_has_loss(
    valid_loss: float, tracking_uri: str, number: int, mnist: PreparedDataset, tmp_path: Path
) -> None:
    run = trial_runs(runs_of(tracking_uri))[number]
    model = MlflowClient(tracking_uri).download_artifacts(run.info.run_id, "model", str(tmp_path))
    search = load_search(mnist.directory, "standard")
    log_probabilities = load_bundle(Path(model)).log_probabilities(np.asarray(search.valid_images)).astype(np.float64)
    losses = -log_probabilities[np.arange(len(search.valid_labels)), search.valid_labels]
    assert len(losses) == 10_000
    assert losses.mean() == pytest.approx(valid_loss, abs=1e-6)


@pytest.mark.slow
def test_sync_rebuilds_the_record_and_is_idempotent(
    finished: Folder, folder: Folder, trials: list[dict[str, Any]], mnist: PreparedDataset, tmp_path: Path
) -> None:
    finished.copy_record(folder)
    (checkpoints,) = (finished.path / "mlruns" / "checkpoints").iterdir()
    shutil.copytree(checkpoints, folder.path / "mlruns" / "checkpoints" / checkpoints.name)

    assert folder.call("sync", "small").code == 0
    rebuilt = snapshot(folder.tracking_uri)
    assert rebuilt == snapshot(finished.tracking_uri)
    best = min((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["value"])
    assert_model_has_loss(best["value"], folder.tracking_uri, best["number"], mnist, tmp_path)

    runs = {run.info.run_id for run in runs_of(folder.tracking_uri)}
    assert folder.call("sync", "small").code == 0
    assert snapshot(folder.tracking_uri) == rebuilt
    assert {run.info.run_id for run in runs_of(folder.tracking_uri)} == runs
    assert folder.trials() == trials


def test_a_killed_and_continued_study_has_one_run_per_trial(killed: Killed, trials: list[dict[str, Any]]) -> None:
    assert_holds(killed.folder.tracking_uri, trials)
    assert parent_of(runs_of(killed.folder.tracking_uri)).info.status == "FINISHED"


@pytest.mark.slow
def test_a_study_killed_while_mlflow_is_written_has_one_run_per_trial(
    finished: Folder, tmp_path: Path, trials: list[dict[str, Any]]
) -> None:
    def attempt() -> Folder:
        folder = make_folder(tmp_path, "killed")
        finished.copy_record(folder)
        run = folder.start("run", "small.yaml")
        while n_trial_runs(folder) < 3:
            if run.process.poll() is not None:
                raise TooLateError
        run.process.kill()
        run.wait()
        if parent_of(runs_of(folder.tracking_uri)).info.status != "RUNNING":
            raise TooLateError
        return folder

    folder = retry_if_too_late(attempt)
    folder.run()
    assert_holds(folder.tracking_uri, trials)
    assert len(runs_of(folder.tracking_uri)) == 1 + 8


def n_trial_runs(folder: Folder) -> int:
    """Count the trials' runs in the database; MLflow's client would be slower than the writer."""
    database = folder.path / "mlruns" / "mlflow.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT count(*) FROM runs WHERE name LIKE '#%'").fetchone()[0]


def test_sync_marks_interrupted_trials_as_not_running(finished: Folder, folder: Folder) -> None:
    """The study was killed after all of its trials had started."""
    finished.copy_record(folder, "optuna.db", "mlflow.db")
    change(folder, "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 7")
    assert folder.call("sync", "small").code == 0
    runs = runs_of(folder.tracking_uri)
    assert len(trial_runs(runs)) == 8
    assert "RUNNING" not in {run.info.status for run in runs}
    assert parent_of(runs).data.tags["mnist_hpo.state"] == "interrupted"
    experiment = MlflowClient(folder.tracking_uri).get_experiment_by_name("small")
    assert experiment is not None
    assert (experiment.tags["state"], experiment.tags["trials"]) == ("interrupted", "7 of 8")


def test_a_study_of_the_same_name_in_another_storage_has_its_own_parent_run(finished: Folder, folder: Folder) -> None:
    finished.copy_record(folder, "optuna.db", "mlflow.db")
    change(folder, "UPDATE study_user_attributes SET value_json = '\"another\"' WHERE key = 'mnist_hpo:uid'")
    assert folder.call("sync", "small").code == 0
    runs = runs_of(folder.tracking_uri)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    n_nested = [
        sum(run.data.tags.get("mlflow.parentRunId") == parent.info.run_id for run in runs) for parent in parents
    ]
    assert n_nested == [8, 8]


@pytest.mark.slow
def test_a_parent_run_created_later_starts_with_the_first_trial(finished: Folder, folder: Folder) -> None:
    finished.copy_record(folder, "optuna.db")
    folder.write_study()
    assert folder.run().code == 0
    runs = runs_of(folder.tracking_uri)
    assert parent_of(runs).info.start_time == min(run.info.start_time for run in trial_runs(runs).values())


def change(folder: Folder, statement: str) -> None:
    with sqlite3.connect(folder.storage) as connection:
        assert connection.execute(statement).rowcount == 1
