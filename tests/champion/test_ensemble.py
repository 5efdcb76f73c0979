"""`mnist-hpo ensemble` combines trained members, tests them and registers a model that anyone can load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder, assert_refused

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError


@pytest.fixture(scope="module")
def folder(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A copy of the finished study, to write into."""
    copy = Folder(tmp_path_factory.mktemp("ensemble"))
    finished.copy_record(copy)
    return copy


@pytest.fixture(scope="module")
def greedy(folder: Folder) -> dict[str, Any]:
    outcome = folder.call("ensemble", "small", "--method", "greedy", "--top", "3", "--seeds", "2", "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json()


def test_members_are_the_best_trials_and_reproduce_their_recorded_losses(
    finished: Folder, greedy: dict[str, Any]
) -> None:
    complete = [trial for trial in finished.trials() if trial["state"] == "complete"]
    best = sorted(complete, key=lambda trial: trial["value"])[:3]
    assert [member["trial"] for member in greedy["members"]] == [trial["number"] for trial in best]
    for member, trial in zip(greedy["members"], best, strict=True):
        assert member["valid_loss"] == pytest.approx(trial["value"], rel=1e-5)
    assert sum(member["weight"] for member in greedy["members"]) == pytest.approx(1)
    assert greedy["valid_loss"] <= best[0]["value"] + 1e-6


def test_the_model_on_disk_has_the_printed_accuracy(
    folder: Folder, greedy: dict[str, Any], mnist: PreparedDataset
) -> None:
    images, labels = load_test(mnist.directory, "standard")
    predicted = load_bundle(folder.path / greedy["model"]).log_probabilities(images).argmax(axis=1)
    assert np.mean(predicted == labels) == pytest.approx(greedy["test_accuracy"][0])
    assert greedy["test_accuracy_mean"] == pytest.approx(np.mean(greedy["test_accuracy"]))
    assert greedy["test_accuracy_mean"] > greedy["members_test_accuracy_mean"] > 0.9


def test_mlflow_loads_the_registered_ensemble(
    folder: Folder, greedy: dict[str, Any], mnist: PreparedDataset, tmp_path: Path
) -> None:
    images = np.asarray(load_search(mnist.directory, "standard").valid_images[:50])
    expected = np.exp(load_bundle(folder.path / greedy["model"]).log_probabilities(images))
    np.save(tmp_path / "images.npy", images)
    code = f"""
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/{greedy["model_name"]}@champion")
np.save("probabilities.npy", model.predict(np.load("images.npy")))
"""
    environment = folder.environment(MLFLOW_TRACKING_URI=folder.tracking_uri)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    # The processes have different JAX settings, so the last bits may differ.
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected, rtol=1e-5)


@pytest.mark.parametrize("change", ["weights", "method", "members"])
def test_a_changed_ensemble_is_refused(folder: Folder, greedy: dict[str, Any], tmp_path: Path, change: str) -> None:
    source, copy = folder.path / greedy["model"], tmp_path / "model"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if change == "weights":
        content = bytearray((copy / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (copy / "model.safetensors").write_bytes(content)
    else:
        description = json.loads((copy / "model.json").read_text())
        if change == "method":
            description["parameters"]["method"] = "vote"
        else:
            description["members"] = description["members"][:1]
        (copy / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="has changed since the model was written"):
        load_bundle(copy)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vote", "average", "stacking", "bagging", "boosting"])
def test_each_method_beats_a_broken_one(folder: Folder, method: str) -> None:
    outcome = folder.call("ensemble", "small", "--method", method, "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json()
    assert len(figures["members"]) == (10 if method in ("bagging", "boosting") else len(figures["members"]))
    assert figures["test_accuracy_mean"] > 0.9
    assert figures["test_accuracy_mean"] >= figures["members_test_accuracy_mean"] - 0.01


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_workers(folder: Folder, greedy: dict[str, Any]) -> None:
    options = ("--method", "greedy", "--top", "3", "--seeds", "2", "--workers", "1", "--name", "again")
    again = folder.call("ensemble", "small", *options, "--json").json()
    for key in ("members", "valid_loss", "test_accuracy", "confusion_matrix"):
        assert again[key] == greedy[key]


def test_wrong_usage_is_refused(folder: Folder) -> None:
    assert_refused(folder.call("ensemble", "small", "--method", "mean"), "--method", "known are vote, average")
    assert_refused(folder.call("ensemble", "small", "--top", "1"), "at least two members", "--top")
    assert_refused(folder.call("ensemble", "small", "--name", "a/b"), "--name", "letters")
    assert_refused(folder.call("ensemble", "other"), "other")
