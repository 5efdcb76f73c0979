"""Seeds that diverge are a result: they are counted, excluded from the means, and shown everywhere."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import SMALL, Folder, Outcome, make_folder
from mlflow import MlflowClient
from policy_driver import Driver

from mnist_hpo.cli.schemas.retrain import RetrainOutput
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.reader import parse_study
from mnist_hpo.storage.study_storage import StudyStorage

# At this learning rate about half of the trainings diverge, on any CPU. The trial's training did not.
UNSTABLE = """\
name: unstable
seed: 3
budget: {n_trials: 3, max_epochs: 1}
slots: 3
sampler: random
space:
  learning_rate: {type: float, low: 1.0e-3, high: 1.0e+4}
fixed: {optimizer: sgd, batch_size: 512, depth: 3, width: 32}
enqueue:
  - {learning_rate: 130.0}
  - {learning_rate: 140.0}
  - {learning_rate: 1.0e+4}
"""
N_SEEDS = 8


def page_of(folder: Folder, study: str) -> str:
    outcome = folder.call("report", study)
    assert outcome.code == 0, outcome.err
    return (folder.path / f"{study}.html").read_text()


@pytest.fixture(scope="module")
def unstable(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a study whose best trial has an unstable learning rate, re-trained with eight seeds."""
    folder = make_folder(tmp_path_factory.getbasetemp(), "unstable")
    (folder.path / "unstable.yaml").write_text(UNSTABLE)
    assert folder.call("run", "unstable.yaml").code == 0
    outcome = folder.call("retrain", "unstable", "--seeds", str(N_SEEDS), "--json")
    assert outcome.code == 0, outcome.err
    (folder.path / "champion.json").write_text(outcome.out)
    return folder


@pytest.fixture(scope="module")
def figures(unstable: Folder) -> dict[str, Any]:
    return json.loads((unstable.path / "champion.json").read_text())


@pytest.mark.slow
def test_means_are_over_the_seeds_that_did_not_diverge(figures: dict[str, Any]) -> None:
    RetrainOutput.model_validate(figures)
    accuracies = [accuracy for accuracy in figures["test_accuracy"] if accuracy is not None]
    assert 0 < figures["n_diverged"] < N_SEEDS
    assert (figures["n_seeds"], len(figures["test_accuracy"])) == (N_SEEDS, N_SEEDS)
    assert len(accuracies) == N_SEEDS - figures["n_diverged"]
    assert figures["test_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert figures["test_log_loss_mean"] > 36, "the log loss is not clipped"
    assert figures["valid_loss"] > 36


@pytest.mark.slow
def test_the_first_seed_that_did_not_diverge_is_registered(unstable: Folder, figures: dict[str, Any]) -> None:
    finite = [seed for seed, accuracy in enumerate(figures["test_accuracy"]) if accuracy is not None]
    assert figures["registered_seed"] == finite[0]
    assert sum(map(sum, figures["confusion_matrix"])) == 10_000
    models = sorted(path.name for path in (unstable.path / figures["model"]).parent.glob("model*"))
    assert models == sorted(["model", *(f"model-seed-{seed}" for seed in finite[1:])])
    kept = np.load(unstable.path / figures["report"] / "predictions.npz")
    assert kept["seeds"].tolist() == finite
    shares = (kept["guesses"] == kept["labels"]).mean(axis=1)
    assert shares.tolist() == [figures["test_accuracy"][seed] for seed in finite]


@pytest.mark.slow
def test_mlflow_says_how_many_diverged(unstable: Folder, figures: dict[str, Any]) -> None:
    run = MlflowClient(unstable.tracking_uri).get_run(figures["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["n_diverged"] == str(figures["n_diverged"])
    assert all(math.isfinite(value) for value in run.data.metrics.values())
    assert run.data.metrics["test_accuracy"] == figures["test_accuracy_mean"]
    version = MlflowClient(unstable.tracking_uri).get_model_version_by_alias("unstable", "champion")
    n_finite = N_SEEDS - figures["n_diverged"]
    assert f"over {n_finite} of {N_SEEDS} seeds (the others diverged)" in (version.description or "")


@pytest.mark.slow
def test_report_and_comparison_say_how_many_diverged(unstable: Folder, figures: dict[str, Any]) -> None:
    expected = f"{N_SEEDS} ({figures['n_diverged']} diverged)"
    page = page_of(unstable, "unstable")
    assert expected in page
    assert f"Seed {figures['registered_seed']} of #" in page
    # Copy the test result to the last trial, which diverged, as if it had been re-trained with the same outcome.
    tested = (unstable.path / figures["report"]).parent
    shutil.copytree(tested, tested.with_name("trial-00002"), dirs_exist_ok=True)
    compared = unstable.call("compare", "--runs", f"unstable:{figures['trial']}", "unstable:2", "--json").json()
    test = compared["compared"][0]["test"]
    assert (test["n_seeds"], test["n_diverged"]) == (N_SEEDS, figures["n_diverged"])
    (paired,) = compared["paired_tests"]
    assert [seed["seed_index"] for seed in paired["seeds"]] == [
        seed for seed, accuracy in enumerate(figures["test_accuracy"]) if accuracy is not None
    ]


@pytest.fixture(scope="module")
def all_diverge(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Outcome]:
    """A record as from another machine, with a complete trial that diverges here for every seed."""
    folder = make_folder(tmp_path_factory.getbasetemp(), "all-diverge")
    file = parse_study(SMALL, folder.path / "small.yaml")
    context = {**provenance(), "dataset_digest": mnist.digest}
    storage = StudyStorage.create(f"sqlite:///{folder.storage}", file.study, study_file=SMALL, context=context)
    driver = Driver(file.study)
    other, diverging = driver.start(), driver.start()
    assert diverging.parameters["learning_rate"] == 1e6
    seconds = {"train_s": 1.0, "evaluate_s": 1.0, "compile_s": 0.0, "total_s": 2.0, "finished_unix_s": 1.0}
    for number, proposal, loss in ((0, diverging, 9867.0), (1, other, 9900.0)):
        storage.start_trial(number, proposal.parameters, proposal.distributions, proposal.costs)
        storage.add_epoch(number, EpochResult(1, 9000.0, loss, 0.1, **seconds))
        storage.finish_trial(number, "complete", [loss])
    storage.close()
    return folder, folder.call("retrain", "small", "--seeds", "2", "--json")


def test_a_trial_whose_seeds_all_diverge_has_no_model(all_diverge: tuple[Folder, Outcome]) -> None:
    folder, outcome = all_diverge
    assert (outcome.code, "Traceback" in outcome.err) == (1, False), outcome.err
    found = json.loads(outcome.out)
    RetrainOutput.model_validate(found)
    assert (found["n_seeds"], found["n_diverged"], found["test_accuracy"]) == (2, 2, [None, None])
    empty = ("registered_seed", "confusion_matrix", "model", "model_name", "model_version", "champion_version")
    assert [found[name] for name in (*empty, "test_accuracy_mean", "test_log_loss_std")] == [None] * 8
    assert not list(Path(folder.path / found["report"]).parent.glob("model*"))
    run = MlflowClient(folder.tracking_uri).get_run(found["run_id"])
    assert (run.info.status, run.data.tags["n_diverged"]) == ("FAILED", "2")
    assert "test_accuracy" not in run.data.metrics
    assert not MlflowClient(folder.tracking_uri).search_registered_models()


def test_report_and_comparison_of_a_trial_without_a_model(all_diverge: tuple[Folder, Outcome]) -> None:
    folder, _ = all_diverge
    page = page_of(folder, "small")
    assert "Every seed of #0 diverged: there is no model to test." in page
    assert "2 (2 diverged)" in page
    compared = folder.call("compare", "--runs", "small:0", "small:1", "--json").json()
    assert compared["compared"][0]["test"]["accuracy_mean"] is None
    assert compared["paired_tests"] == []


def test_retrain_prints_that_all_seeds_diverged(all_diverge: tuple[Folder, Outcome]) -> None:
    folder, _ = all_diverge
    outcome = folder.call("retrain", "small", "--seeds", "2")
    assert outcome.code == 1
    assert "diverged:   2 of 2 seeds" in outcome.out
    assert "There is no model" in outcome.out
