"""The champion is re-trained exactly, tested, logged to MLflow with all figures, and usable in another process."""

import csv
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import mlflow
import numpy as np
import pytest
from command import Folder, Outcome
from mlflow import MlflowClient
from mlflow.entities import Run
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.champion.retrain import choose_trial
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.records import TrialRecord

MEASURES = ("accuracy", "macro_f1", "macro_precision", "macro_recall", "log_loss", "ece")


@pytest.fixture(scope="module")
def champion(retrained: Folder) -> Run:
    """The champion's run, read with MLflow's own client."""
    (run,) = champion_runs(MlflowClient(retrained.tracking_uri), "champion")
    return run


def champion_runs(client: MlflowClient, name: str) -> list[Run]:
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'"))


@pytest.fixture(scope="module")
def test_digits(mnist: PreparedDataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = load_test(mnist.directory, "standard")
    return np.asarray(images), np.asarray(labels)


def test_retrain_prints_the_figures_of_the_best_trial(finished: Folder, figures: dict[str, Any]) -> None:
    best = finished.status()["best"]
    assert figures["reproduced"] == "exact"
    assert (figures["trial"], figures["valid_loss"]) == (best["number"], best["value"])
    assert figures["n_seeds"] == len(figures["test_accuracy"]) == 2
    first, second = figures["test_accuracy"]
    assert figures["test_accuracy_mean"] == pytest.approx((first + second) / 2)
    assert figures["test_accuracy_std"] == pytest.approx(abs(first - second) / math.sqrt(2))
    for measure in MEASURES:
        assert 0 < figures[f"test_{measure}_mean"] < 1
        assert 0 <= figures[f"test_{measure}_std"] < 0.05
    # Three epochs of the smallest network reach at least this accuracy.
    assert figures["test_accuracy_mean"] > 0.9
    assert figures["test_macro_f1_mean"] > 0.9


def test_the_models_on_disk_have_the_printed_figures(
    retrained: Folder, figures: dict[str, Any], test_digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    images, labels = test_digits
    assert len(labels) == 10_000
    model = retrained.path / figures["model"]
    for directory, accuracy in zip((model, Path(f"{model}-seed-1")), figures["test_accuracy"], strict=True):
        assert np.mean(load_bundle(directory).log_probabilities(images).argmax(axis=1) == labels) == accuracy
    probabilities = np.exp(load_bundle(model).log_probabilities(images).astype(np.float64))
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    assert figures["confusion_matrix"] == confusion.tolist()


def test_every_seeds_predictions_are_stored_for_paired_tests(
    retrained: Folder, figures: dict[str, Any], test_digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    kept = np.load(retrained.path / figures["report"] / "predictions.npz")
    assert (kept["guesses"].shape, kept["guesses"].dtype) == ((2, 10_000), np.uint8)
    assert (kept["labels"] == test_digits[1]).all()
    assert (kept["guesses"] == kept["labels"]).mean(axis=1).tolist() == figures["test_accuracy"]


def test_the_champion_is_trained_on_train_and_valid_together(
    retrained: Folder, figures: dict[str, Any], mnist: PreparedDataset, tmp_path: Path
) -> None:
    model = load_bundle(retrained.path / figures["model"])
    epochs = figures["best_epoch"]
    assert model.provenance["epochs"] == epochs
    executor = LocalExecutor(1)
    try:
        for portion, is_it in (("development", True), ("search", False)):
            config = TrainingConfig("mlp", figures["params"], seed=model.provenance["seed"], max_epochs=epochs)
            data = DataRef(str(mnist.directory), "standard", 10, portion)
            store = CheckpointStore(tmp_path)
            run_jobs(executor, [Job(portion, config, data, epochs, str(store.path(portion)))])
            weights = store.load_kept_model(portion)
            assert all((weights[name] == model.tensors[name]).all() for name in weights) is is_it
    finally:
        executor.close()


def test_the_run_in_mlflow_has_all_figures(champion: Run, figures: dict[str, Any]) -> None:
    assert champion.info.status == "FINISHED"
    for measure in MEASURES:
        assert champion.data.metrics[f"test_{measure}"] == figures[f"test_{measure}_mean"]
        assert champion.data.metrics[f"test_{measure}_std"] == figures[f"test_{measure}_std"]
    for digit in range(10):
        for measure in ("precision", "recall", "f1"):
            assert 0 < champion.data.metrics[f"test_{measure}_class_{digit}"] <= 1
    assert champion.data.tags["reproduced"] == "exact"
    assert champion.data.tags["trial.number"] == str(figures["trial"])
    assert champion.data.params["width"] == str(figures["params"]["width"])


def test_the_confusion_matrix_is_logged_as_a_table_and_a_picture(
    retrained: Folder, champion: Run, figures: dict[str, Any], tmp_path: Path
) -> None:
    client = MlflowClient(retrained.tracking_uri)
    table = client.download_artifacts(champion.info.run_id, "confusion_matrix.csv", str(tmp_path))
    with Path(table).open() as file:
        header, *rows = csv.reader(file)
    assert header == ["true", *map(str, range(10))]
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    assert [[int(n) for n in row[1:]] for row in rows] == figures["confusion_matrix"]
    assert sum(map(sum, figures["confusion_matrix"])) == 10_000
    picture = client.download_artifacts(champion.info.run_id, "confusion_matrix.png", str(tmp_path))
    height, width, _ = matplotlib.image.imread(picture).shape
    assert min(height, width) >= 400
    by_class = client.download_artifacts(champion.info.run_id, "per_class.csv", str(tmp_path))
    assert len(Path(by_class).read_text().splitlines()) == 1 + 10


def test_pictures_of_learning_curves_and_mistakes_are_logged(
    retrained: Folder, champion: Run, figures: dict[str, Any], tmp_path: Path
) -> None:
    client = MlflowClient(retrained.tracking_uri)
    for name in ("misclassified.png", "reliability.png", "learning_curves.png"):
        picture = client.download_artifacts(champion.info.run_id, name, str(tmp_path))
        assert Path(picture).read_bytes() == (retrained.path / figures["report"] / name).read_bytes()
        height, width, _ = matplotlib.image.imread(picture).shape
        assert min(height, width) >= 400


def test_the_calibration_error_of_the_champion_is_logged(
    retrained: Folder, figures: dict[str, Any], test_digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    """An independent calculation, bin by bin, gives the same value."""
    images, labels = test_digits
    errors: list[float] = []
    for model in (figures["model"], f"{figures['model']}-seed-1"):
        log_probabilities = load_bundle(retrained.path / model).log_probabilities(images)
        confidence = np.exp(log_probabilities.max(axis=1).astype(np.float64))
        right = log_probabilities.argmax(axis=1) == labels
        error = 0.0
        for edge in range(15):
            inside = (confidence > edge / 15) & (confidence <= (edge + 1) / 15)
            error += abs(right[inside].sum() - confidence[inside].sum()) / len(labels)
        errors.append(error)
    assert figures["test_ece_mean"] == pytest.approx(np.mean(errors), abs=1e-9)


def test_the_champions_dataset_is_logged_with_its_digest(champion: Run, mnist: PreparedDataset) -> None:
    used = {
        entry.dataset.name: (entry.dataset.digest, [tag.value for tag in entry.tags])
        for entry in champion.inputs.dataset_inputs
    }
    assert used == {
        "mnist-standard-development": (mnist.digest[:32], ["training"]),
        "mnist-standard-test": (mnist.digest[:32], ["testing"]),
    }


def test_the_registered_model_is_described(retrained: Folder, mnist: PreparedDataset, tmp_path: Path) -> None:
    client = MlflowClient(retrained.tracking_uri)
    model = client.get_registered_model("small")
    assert "a search of seconds" in model.description
    assert model.tags == {"study": "small", "dataset": "mnist", "split": "standard", "model": "mlp"}
    version = client.get_model_version_by_alias("small", "champion")
    assert version.tags["test_accuracy"] in version.description
    assert version.tags["dataset_digest"] == mnist.digest
    saved = mlflow.artifacts.download_artifacts(
        artifact_uri=version.source, dst_path=str(tmp_path), tracking_uri=retrained.tracking_uri
    )
    logged = mlflow.models.Model.load(saved)
    example = np.asarray(mlflow.pyfunc.load_model(saved).input_example)
    # There is no input schema, with which MLflow would accept only one type and shape; the model checks its input.
    assert logged.signature.inputs is None
    assert logged.signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 10)}
    assert "[n, 784] or [n, 28, 28] with values from 0 to 255" in model.description
    assert (example == np.asarray(load_search(mnist.directory, "standard").train_images[:1])).all()


PREDICT = """
import json, pathlib, sys
import mlflow
import numpy as np
files = pathlib.Path(mlflow.artifacts.download_artifacts("models:/small@champion", dst_path="model")).rglob("*")
images, labels = np.load(sys.argv[1]), np.load(sys.argv[2])
probabilities = mlflow.pyfunc.load_model("models:/small@champion").predict(images)
print(json.dumps({
    "accuracy": float(np.mean(probabilities.argmax(axis=1) == labels)),
    "files": [file.name for file in files],
    "shape": probabilities.shape,
    "sums": [float(probabilities.sum(axis=1).min()), float(probabilities.sum(axis=1).max())],
}))
"""


def test_the_registered_model_predicts_in_a_new_process(
    retrained: Folder,
    figures: dict[str, Any],
    test_digits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    for name, array in zip(("images", "labels"), test_digits, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, "images.npy", "labels.npy"],
        cwd=tmp_path,
        env=retrained.environment(MLFLOW_TRACKING_URI=retrained.tracking_uri),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] == figures["test_accuracy"][0]
    assert found["shape"] == [10_000, 10]
    assert found["sums"] == pytest.approx([1, 1], abs=1e-5)
    assert {"model.json", "model.safetensors", "mlflow_model.py"} <= set(found["files"])
    assert not [name for name in found["files"] if name.endswith((".pkl", ".pickle", ".joblib", ".pt"))]


def test_a_trial_that_is_not_complete_cannot_be_re_trained() -> None:
    trials = [TrialRecord(0, "failed", {}, reason="diverged at epoch 1"), TrialRecord(1, "running", {})]
    for number, message in (
        (0, "trial 0 .*diverged at epoch 1"),
        (1, "trial 1 .*it was interrupted"),
        (2, "no trial 2"),
    ):
        with pytest.raises(UserError, match=message):
            choose_trial(trials, number)
    with pytest.raises(UserError, match="no trial of this study is complete"):
        choose_trial(trials, None)


@pytest.fixture(scope="module")
def tampered(retrained: Folder, copy_of: Callable[[Folder], Folder], figures: dict[str, Any]) -> Folder:
    """A copy of the study with a changed record: the loss of the best trial's first epoch. Re-trained again."""
    folder = copy_of(retrained)
    with sqlite3.connect(folder.storage) as connection:
        (trial_id,) = connection.execute("SELECT trial_id FROM trials WHERE number = ?", [figures["trial"]]).fetchone()
        where = "WHERE trial_id = ? AND key = 'epoch:1'"
        (text,) = connection.execute(f"SELECT value_json FROM trial_user_attributes {where}", [trial_id]).fetchone()
        epoch = json.loads(text)
        epoch["valid_loss"] += 0.0625
        connection.execute(f"UPDATE trial_user_attributes SET value_json = ? {where}", [json.dumps(epoch), trial_id])
        connection.execute(
            "UPDATE trial_intermediate_values SET intermediate_value = ? WHERE trial_id = ? AND step = 1",
            [epoch["valid_loss"], trial_id],
        )
    outcome = folder.call("retrain", "small", "--seeds", "2", "--json")
    assert outcome.code == 1, outcome.err
    (folder.path / "champion.json").write_text(outcome.out)
    return folder


def test_a_record_that_cannot_be_reproduced_is_reported(tampered: Folder) -> None:
    found = json.loads((tampered.path / "champion.json").read_text())
    assert found["reproduced"] == "differs from epoch 1 on, valid_loss by at most 0.0625"


def test_re_training_again_gives_the_same_figures(tampered: Folder, figures: dict[str, Any]) -> None:
    """The record of the first epoch has no influence on how the champion is trained."""
    again = json.loads((tampered.path / "champion.json").read_text())
    same = ["params", "best_epoch", "confusion_matrix", "test_accuracy"]
    same += [f"test_{measure}_{statistic}" for measure in MEASURES for statistic in ("mean", "std")]
    assert {name: again[name] for name in same} == {name: figures[name] for name in same}


def test_re_training_again_registers_the_next_version(tampered: Folder, figures: dict[str, Any]) -> None:
    client = MlflowClient(tampered.tracking_uri)
    assert figures["model_version"] == "1"
    assert str(client.get_model_version_by_alias("small", "champion").version) == "2"


@dataclass(frozen=True)
class Compared:
    """A pruned trial re-trained with one seed, after it and the best trial were re-trained with two."""

    folder: Folder
    number: int
    outcome: Outcome


@pytest.fixture(scope="module")
def compared(retrained: Folder, copy_of: Callable[[Folder], Folder]) -> Compared:
    folder = copy_of(retrained)
    number = next(trial["number"] for trial in folder.trials() if trial["state"] == "pruned")
    # Copy the best trial's test to this trial, since only the number of seeds matters here.
    (tested,) = (retrained.path / "mlruns" / "champions").glob("small-*/trial-*")
    champions = folder.path / "mlruns" / "champions" / tested.parent.name
    shutil.copytree(tested, champions / f"trial-{number:05d}")
    return Compared(folder, number, folder.call("retrain", "small", "--trial", str(number), "--seeds", "1"))


def test_a_test_with_fewer_seeds_reports_what_it_replaces(compared: Compared) -> None:
    assert f"trial {compared.number}: replaces a test with 2 seeds\n" in compared.outcome.err


def test_only_the_best_trial_becomes_champion(compared: Compared, figures: dict[str, Any]) -> None:
    assert figures["champion_version"] == figures["model_version"] == "1"
    folder, pruned, outcome = compared.folder, compared.number, compared.outcome
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("reproduced: exact\n")
    assert f"small, trial #{pruned}: test" in outcome.out
    assert f"models:/small/2 (@champion stays with version 1: trial {pruned} is not the study's best)" in outcome.out
    client = MlflowClient(folder.tracking_uri)
    assert str(client.get_model_version_by_alias("small", "champion").version) == "1"
    (run,) = champion_runs(client, f"trial {pruned}, tested")
    assert run.data.tags["mnist_hpo.kind"] == "champion"
    assert run.info.run_id == client.get_model_version("small", "2").run_id
    assert len(champion_runs(client, "champion")) == 1
