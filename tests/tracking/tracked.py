"""Read a study's record in MLflow with MLflow's own client."""

import hashlib
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType


def runs_of(tracking_uri: str, study: str = "small") -> list[Run]:
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, max_results=1000))


def parent_of(runs: list[Run]) -> Run:
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    return parent


def trial_runs(runs: list[Run]) -> dict[int, Run]:
    """Return the nested runs by trial number; there must be one for each trial."""
    parent = parent_of(runs)
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    by_number = {int(run.data.tags["trial.number"]): run for run in nested if "trial.state" in run.data.tags}
    assert len(by_number) == sum("trial.state" in run.data.tags for run in nested)
    return by_number


def history(tracking_uri: str, run: Run, metric: str) -> dict[int, float]:
    """Return a metric by epoch; no epoch may occur twice."""
    points = MlflowClient(tracking_uri).get_metric_history(run.info.run_id, metric)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in sorted(points, key=lambda point: point.step)}


def assert_holds(tracking_uri: str, trials: list[dict[str, Any]]) -> None:
    """Assert that MLflow holds a parent run and one nested run per trial, none running, with the storage's losses."""
    runs = runs_of(tracking_uri)
    by_number = trial_runs(runs)
    assert sorted(by_number) == [trial["number"] for trial in trials]
    assert {run.info.lifecycle_stage for run in runs} == {"active"}
    assert "RUNNING" not in {run.info.status for run in runs}
    for trial in trials:
        recorded = {int(epoch): loss for epoch, loss in trial["valid_loss"].items()}
        assert history(tracking_uri, by_number[trial["number"]], "valid_loss") == recorded


def snapshot(tracking_uri: str) -> list[Any]:
    """Return everything that MLflow shows of a study, except the ids that MLflow assigns."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    seen: list[Any] = [("experiment", experiment.tags)]
    for run in runs_of(tracking_uri):
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        metrics = {
            name: [
                (point.step, point.timestamp, point.value) for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        times = (run.info.start_time, run.info.end_time) if "trial.state" in tags else run.info.end_time
        inputs = [(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs]
        # Plots are redrawn each time, and their importances, from a random forest, may differ in the last bits.
        files = {
            path: "" if path.startswith("plots.") else digest(client, run, path)
            for path in sorted(artifacts(tracking_uri, run))
            if path != "model"
        }
        seen.append((run.info.run_name, run.info.status, times, tags, run.data.params, metrics, inputs, files))
    return sorted(seen, key=repr)


def digest(client: MlflowClient, run: Run, path: str) -> str:
    return hashlib.sha256(Path(client.download_artifacts(run.info.run_id, path)).read_bytes()).hexdigest()


def artifacts(tracking_uri: str, run: Run, folder: str | None = None) -> set[str]:
    return {file.path for file in MlflowClient(tracking_uri).list_artifacts(run.info.run_id, folder)}
