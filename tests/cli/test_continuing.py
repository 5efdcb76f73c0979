"""Which processes may continue a study: those with the same CPU features; without results, with any study file."""

from pathlib import Path

import numpy as np
import pytest
from command import Folder, assert_refused, make_folder
from mlflow import MlflowClient
from mlflow.entities import ViewType
from policy_driver import Driver

from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.messages import Subject
from mnist_hpo.tracking.projection import Projection


@pytest.fixture(scope="module")
def record(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A copy of the finished study with a budget of two more trials."""
    folder = make_folder(tmp_path_factory.getbasetemp(), "extended")
    finished.copy_record(folder)
    folder.write_study("n_trials: 8", "n_trials: 10")
    return folder


def test_other_cpu_features_of_numpy_are_refused_with_their_names(record: Folder) -> None:
    features = provenance()["numpy.cpu_features"]
    last = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [""])[-1]
    if not last:
        pytest.skip("this CPU has only the features of NumPy's baseline")
    before = record.trials()
    outcome = record.call("run", "small.yaml", NPY_DISABLE_CPU_FEATURES=last)
    assert_refused(
        outcome,
        f"the study 'small' was started with NumPy using other CPU features, {features!r} (here ",
        f"missing here: {last}",
        "NPY_DISABLE_CPU_FEATURES",
        "another name",
    )
    assert record.trials() == before


def test_a_study_cannot_be_continued_with_the_kernels_disabled(record: Folder) -> None:
    before = record.trials()
    outcome = record.call("run", "small.yaml", MNIST_HPO_KERNELS="off")
    assert_refused(outcome, "was started with MNIST_HPO_KERNELS=on, but now it is off", "another name")
    assert record.trials() == before


def start_without_an_epoch(folder: Folder, digest: str) -> StudyStorage:
    """Write the record of a run that was killed in its first epoch: two trials, in the storage and in MLflow."""
    file = read_study(folder.path / "small.yaml")
    context = {**provenance(), "dataset_digest": digest}
    url = f"sqlite:///{folder.storage}"
    storage = StudyStorage.create(url, file.study, study_file=file.text, context=context)
    driver = Driver(file.study)
    for proposal in (driver.start(), driver.start()):
        storage.start_trial(proposal.number, proposal.parameters, proposal.distributions, proposal.costs)
    trials = storage.trials()
    projection = Projection(Subject(folder.tracking_uri, file.study, file.text, storage.uid, context))
    projection.open(trials)
    for trial in trials:
        projection.push(trial)
    checkpoints = folder.path / "mlruns" / "checkpoints" / storage.folder_name
    checkpoints.mkdir(parents=True)
    (checkpoints / "trial-00000.safetensors").write_bytes(b"of an unrecorded epoch")
    return storage


@pytest.mark.slow
def test_a_study_without_a_finished_epoch_may_be_changed(
    mnist: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, "changed")
    old = start_without_an_epoch(folder, mnist.digest)
    old_folder = folder.path / "mlruns" / "checkpoints" / old.folder_name
    old_uid = old.uid
    old.close()
    folder.write_study("n_trials: 8, max_epochs: 3", "n_trials: 1, max_epochs: 1", "seed: 3", "seed: 4")
    status = folder.run().json()
    assert (status["state"], status["budget"]) == ("complete", {"n_trials": 1, "max_epochs": 1})
    assert len(folder.trials()) == 1
    assert not old_folder.exists()

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = MlflowClient(folder.tracking_uri)
    (experiment,) = (found for found in client.search_experiments() if found.name == "small")
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}
    shown = [run for run in runs if run.info.lifecycle_stage == "active"]
    assert {run.data.tags["mnist_hpo.kind"] for run in shown} == {"study", "trial"}
    assert len(shown) == 2
    assert old_uid not in {run.data.tags["mnist_hpo.study_uid"] for run in shown}
    (parent,) = (run for run in shown if run.data.tags["mnist_hpo.kind"] == "study")
    assert parent.data.params["seed"] == "4"
