"""Studies with `keep: last`: a trial keeps its last model, whose loss is its value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder, make_folder

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset

STUDY = """\
name: small
seed: 3
budget: {n_trials: 2, max_epochs: 12}
objective: valid_loss
sampler: random
space:
  learning_rate: {type: float, low: 0.005, high: 0.01, log: true}
fixed: {depth: 2, width: 64, batch_size: 50, n_train: 500}
"""
"""Trainings that overfit: the last epoch is not that of the lowest valid_loss."""


def run(base: Path, name: str, study: str, tracking_uri: str) -> Folder:
    folder = make_folder(base, name, tracking_uri)
    (folder.path / "small.yaml").write_text(study)
    folder.run()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_tracking: str) -> Folder:
    study = STUDY.replace("max_epochs: 12", "max_epochs: 12, keep: last")
    return run(tmp_path_factory.mktemp("keep"), "last", study, shared_tracking)


def losses(trial: dict[str, Any]) -> list[float]:
    return [trial["valid_loss"][str(epoch + 1)] for epoch in range(len(trial["valid_loss"]))]


def test_the_value_of_a_trial_is_its_last_loss(folder: Folder) -> None:
    trials = folder.trials()
    assert any(min(losses(trial)) < losses(trial)[-1] for trial in trials)
    for trial in trials:
        assert (trial["best_epoch"], trial["value"]) == (12, losses(trial)[-1])


def test_the_model_of_the_best_trial_is_that_of_its_last_epoch(folder: Folder, mnist: PreparedDataset) -> None:
    best = folder.status()["best"]
    (path,) = (folder.path / "mlruns" / "checkpoints").rglob(f"best-{best['number']:05d}")
    model, arrays = load_bundle(path), load_search(mnist.directory, "standard")
    log_probabilities = model.log_probabilities(arrays.valid_images)
    loss = -log_probabilities[np.arange(len(arrays.valid_labels)), arrays.valid_labels].mean()
    assert model.provenance["epoch"] == 12
    assert loss == pytest.approx(best["value"], rel=1e-4)


@pytest.mark.slow
def test_retrain_trains_for_all_epochs(folder: Folder) -> None:
    outcome = folder.call("retrain", "small", "--seeds", "1", "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json()
    assert (figures["reproduced"], figures["best_epoch"]) == ("exact", 12)
    assert figures["valid_loss"] == folder.status()["best"]["value"]


def test_a_recorded_study_cannot_change_what_it_keeps(folder: Folder) -> None:
    (folder.path / "changed.yaml").write_text(STUDY)
    outcome = folder.call("run", "changed.yaml")
    assert outcome.code == 2
    assert "keep: last" in outcome.err


@pytest.mark.slow
def test_training_does_not_depend_on_what_is_kept(folder: Folder, tmp_path: Path, shared_tracking: str) -> None:
    best = run(tmp_path, "best", STUDY, shared_tracking).trials()
    assert [losses(trial) for trial in best] == [losses(trial) for trial in folder.trials()]
    assert [trial["value"] for trial in best] == [min(losses(trial)) for trial in best]
