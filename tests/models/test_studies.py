"""A short study of each model, run, re-trained, registered and served, on real digits."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from command import ROOT, Folder, make_folder
from mlflow import MlflowClient
from ruamel.yaml import YAML

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset


@dataclass(frozen=True)
class Short:
    """How a study is shortened to 4 trials, and the test accuracy that a model which works exceeds."""

    model: str
    n_train: int
    floor: float
    max_epochs: int = 2
    fixed: dict[str, int] = field(default_factory=dict[str, int])
    """Hyperparameters with other values than in the study file."""


SHORT = {
    "cnn": Short("cnn", 400, 0.8, fixed={"batch_size": 20}),
    "cnn_best": Short("cnn", 1000, 0.8, max_epochs=3, fixed={"batch_size": 20}),
    "serve": Short("cnn", 1000, 0.8, max_epochs=3, fixed={"batch_size": 20}),
    "mlp_best": Short("mlp", 1000, 0.8, max_epochs=4, fixed={"batch_size": 20}),
    "mlp_best_augmented": Short("mlp", 2000, 0.8, max_epochs=3, fixed={"batch_size": 20}),
    "svm": Short("svm", 400, 0.8),
    "svm_full": Short("svm", 1000, 0.9),
    "svm_deskewed": Short("svm", 1000, 0.94),
    "knn": Short("knn", 1000, 0.86, max_epochs=1),
    "knn_deskewed": Short("knn", 1000, 0.93, max_epochs=1, fixed={"n_candidates": 20}),
    "forest": Short("forest", 1000, 0.87, fixed={"n_trees": 50}),
    "logistic": Short("logistic", 1000, 0.84),
    "rnn": Short("rnn", 2000, 0.8, max_epochs=3, fixed={"batch_size": 20}),
    "transformer": Short("transformer", 4000, 0.8, max_epochs=3, fixed={"batch_size": 20}),
}


def short_form(study: str) -> str:
    yaml, short = YAML(), SHORT[study]
    document = yaml.load((ROOT / "studies" / f"{study}.yaml").read_text())
    document["budget"] |= {"n_trials": 4, "max_epochs": short.max_epochs}
    document["fixed"] |= {"n_train": short.n_train, **short.fixed}
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


@pytest.fixture(scope="module", params=list(SHORT))
def study(request: pytest.FixtureRequest, mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a study whose best trial was re-trained, the study's name, and the figures of the test."""
    name: str = request.param
    folder = make_folder(tmp_path_factory.getbasetemp(), name)
    (folder.path / "small.yaml").write_text(short_form(name))
    folder.run()
    return folder, name, folder.call("retrain", name, "--seeds", "2", "--json").json()


@pytest.mark.slow
def test_a_study_runs_and_its_best_trial_is_reproduced_exactly(study: tuple[Folder, str, dict[str, Any]]) -> None:
    folder, name, figures = study
    status = folder.call("status", name, "--json").json()
    assert (status["state"], status["n_trials"]["failed"]) == ("complete", 0)
    assert f"{status['best']['metric']} {status['best']['value']:.5f}" in folder.call("status", name).out
    assert figures["reproduced"] == "exact"
    assert figures["n_diverged"] == 0
    assert figures["test_accuracy_mean"] > SHORT[name].floor
    assert folder.call("report", name).code == 0
    assert (folder.path / f"{name}.html").stat().st_size > 100_000


@pytest.mark.slow
def test_the_history_does_not_depend_on_the_number_of_workers(
    study: tuple[Folder, str, dict[str, Any]], tmp_path: Path
) -> None:
    folder, name, _ = study
    other = make_folder(tmp_path, name)
    (other.path / "small.yaml").write_text(short_form(name))
    other.run("--workers", "1")
    histories = [each.call("status", name, "--json").json()["history_sha256"] for each in (folder, other)]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_the_bundle_holds_the_model_that_was_tested(
    study: tuple[Folder, str, dict[str, Any]], mnist: PreparedDataset
) -> None:
    folder, name, figures = study
    images, labels = load_test(mnist.directory, "standard")
    bundle = load_bundle(folder.path / figures["model"])
    assert bundle.model.model == SHORT[name].model
    assert bundle.model.parameters["n_train"] == SHORT[name].n_train
    found = bundle.log_probabilities(np.asarray(images))
    assert np.mean(found.argmax(axis=1) == labels) == figures["test_accuracy"][0]
    if name == "cnn" and bundle.model.parameters["architecture"] == "vgg":
        assert bundle.tensors["norms.0.mean"].any()


@pytest.mark.slow
def test_mlflow_has_the_trials_and_loads_the_champion(
    study: tuple[Folder, str, dict[str, Any]], mnist: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name, figures = study
    client = MlflowClient(folder.tracking_uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`mnist_hpo.kind` = 'trial'")
    trials = folder.call("trials", name, "--json").json()
    assert len(runs) == len(trials) == 4
    losses = {run.data.tags["trial.number"]: run.data.metrics["best_valid_loss"] for run in runs}
    assert losses == {str(trial["number"]): trial["best_valid_loss"] for trial in trials}
    version = client.get_model_version_by_alias(name, "champion")
    model = mlflow.pyfunc.load_model(version.source)
    images = np.array(load_search(mnist.directory, "standard").valid_images[:100])
    expected = np.exp(load_bundle(folder.path / figures["model"]).log_probabilities(images))
    np.testing.assert_allclose(model.predict(images), expected, rtol=1e-5)
