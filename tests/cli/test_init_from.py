"""Studies that start from the weights of another study, run with the command line on real digits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder, TooLateError, assert_refused, make_folder, retry_if_too_late, wait_until_gone
from mlflow import MlflowClient

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset

SOURCE = """\
name: turned
dataset: {path: digits}
seed: 5
budget: {n_trials: 2, max_epochs: 2}
slots: 2
sampler: random
space:
  learning_rate: {type: float, low: 0.002, high: 0.01, log: true}
fixed: {depth: 2, width: 32, batch_size: 50}
"""
SMALL = """\
name: small
init_from: {study: turned, layers: all_but_last, learning_rate_factor: 0.5}
seed: 1
budget: {n_trials: 4, max_epochs: 3}
slots: 2
sampler: {name: tpe, n_startup_trials: 2}
pruner: {name: median, n_startup_trials: 1, n_warmup_steps: 0}
space:
  learning_rate: {type: float, low: 0.002, high: 0.01, log: true}
fixed: {depth: 2, width: 32, batch_size: 100, n_train: 5000}
"""


@pytest.fixture(scope="module")
def source(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a complete study of 3,600 digits that are rotated by 90 degrees; shared, so it is only copied."""
    folder = make_folder(tmp_path_factory.mktemp("source"), "source")
    arrays = load_search(mnist.directory, "standard")
    rotated = np.rot90(arrays.train_images[:3600].reshape(-1, 28, 28), axes=(1, 2))
    (folder.path / "digits").mkdir()
    np.savez(folder.path / "digits" / "train.npz", images=rotated[:3000], labels=arrays.train_labels[:3000])
    np.savez(folder.path / "digits" / "test.npz", images=rotated[3000:], labels=arrays.train_labels[3000:3600])
    (folder.path / "turned.yaml").write_text(SOURCE)
    (folder.path / "small.yaml").write_text(SMALL)
    outcome = folder.call("run", "turned.yaml")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def copy(source: Folder, tmp_path: Path, shared_tracking: str) -> Callable[[str], Folder]:
    def copy(name: str) -> Folder:
        shutil.copytree(source.path, tmp_path / name)
        return Folder(tmp_path / name, shared_tracking)

    return copy


def bundles(folder: Folder) -> list[Path]:
    return sorted((folder.path / "mlruns" / "checkpoints").glob("turned-*/best-*"))


def replace(folder: Folder, old: str, new: str, name: str = "small.yaml") -> None:
    text = (folder.path / name).read_text()
    assert text.count(old) == 1
    (folder.path / name).write_text(text.replace(old, new))


@pytest.mark.slow
def test_the_history_does_not_depend_on_the_workers_a_kill_or_the_path_of_the_weights(
    copy: Callable[[str], Folder],
) -> None:
    first = copy("one worker")
    expected = first.run("--workers", "1").json()
    assert expected["history_sha256"] != plain_history(copy("random weights"))

    def attempt() -> Folder:
        folder = copy(f"killed {np.random.default_rng().integers(1 << 30)}")
        run = folder.start("run", "small.yaml", "--workers", "2")
        run.suspend_after(r"^trial \d")
        processes = run.workers() + run.writers()
        run.process.kill()
        run.wait()
        wait_until_gone(processes)
        if folder.status()["state"] == "complete":
            raise TooLateError
        return folder

    killed = retry_if_too_late(attempt)
    assert killed.run("--workers", "2").json()["history_sha256"] == expected["history_sha256"]

    # The same weights in a folder of their own, in a home without the record of the source study.
    other = copy("bundle")
    (bundle,) = bundles(other)
    bundle.rename(other.path / "model")
    shutil.rmtree(other.path / "mlruns")
    replace(other, "study: turned", "bundle: model")
    assert other.run("--workers", "2").json()["history_sha256"] == expected["history_sha256"]


def plain_history(folder: Folder) -> str:
    replace(folder, "init_from: {study: turned, layers: all_but_last, learning_rate_factor: 0.5}\n", "")
    return folder.run().json()["history_sha256"]


@pytest.mark.slow
def test_retrain_ensemble_and_report_work_after_the_source_is_deleted(copy: Callable[[str], Folder]) -> None:
    folder = copy("whole")
    folder.run()
    shutil.rmtree(folder.path / "digits")
    (bundle,) = bundles(folder)
    shutil.rmtree(bundle.parent)
    retrained = folder.call("retrain", "small", "--seeds", "1", "--json").json()
    assert retrained["reproduced"] == "exact"
    recorded = check_provenance(folder, retrained)
    assert folder.call("report", "small").code == 0
    page = (folder.path / "small.html").read_text()
    assert f"starts from the weights of study turned, trial {recorded['origin']['trial']}" in page
    ensemble = folder.call("ensemble", "small", "--top", "1", "--copies", "2", "--seeds", "1", "--json")
    assert ensemble.code == 0, ensemble.err

    # Without the copy of the weights, a re-training would be another one.
    (weights,) = (folder.path / "mlruns" / "weights").iterdir()
    weights.unlink()
    refused = folder.call("retrain", "small", "--seeds", "1")
    assert_refused(
        refused, str(weights.name), "are missing; to copy them again, run the study small with `mnist-hpo run`"
    )


def check_provenance(folder: Folder, retrained: dict[str, Any]) -> dict[str, Any]:
    """Check that the champion and the trials' parent run say which weights they started from, and return this."""
    model = json.loads((folder.path / retrained["model"] / "model.json").read_text())
    recorded = json.loads(model["provenance"]["init_from"])
    client = MlflowClient(folder.environment()["MLFLOW_TRACKING_URI"])
    parent = client.get_run(retrained["run_id"]).data.tags["mlflow.parentRunId"]
    assert json.loads(client.get_run(parent).data.tags["mnist_hpo.init_from"]) == recorded
    assert recorded["origin"]["study"] == "turned"
    assert len(recorded["origin"]["history_sha256"]) == len(recorded["sha256"]) == 64
    return recorded


@pytest.mark.slow
def test_a_study_is_refused_when_its_source_has_changed(copy: Callable[[str], Folder]) -> None:
    folder = copy("changed")
    history = folder.run().json()["history_sha256"]
    replace(folder, "seed: 5", "seed: 6", "turned.yaml")
    replace(folder, "name: turned", "name: again", "turned.yaml")
    assert folder.call("run", "turned.yaml").code == 0
    # The same name with other weights, as after the study was deleted and run with another seed.
    (bundle,), (again,) = bundles(folder), (folder.path / "mlruns" / "checkpoints").glob("again-*/best-*")
    shutil.rmtree(bundle)
    shutil.copytree(again, bundle)
    replace(folder, "n_trials: 4", "n_trials: 5")
    refused = folder.call("run", "small.yaml")
    assert_refused(
        refused,
        "the study 'small' was started from other weights: study turned, trial ",
        "but init_from now names study turned, trial ",
        "Restore the source, or give the study another name",
    )
    assert folder.status()["history_sha256"] == history


def test_an_unknown_study_the_study_itself_and_a_study_without_its_model_are_refused(
    copy: Callable[[str], Folder],
) -> None:
    folder = copy("refused")
    replace(folder, "study: turned", "study: tunred")
    refused = folder.call("run", "small.yaml")
    assert_refused(refused, "small.yaml, line 2: init_from.study: no study 'tunred' in ", "did you mean 'turned'?")
    replace(folder, "study: tunred", "study: small")
    assert_refused(folder.call("run", "small.yaml"), "line 2: init_from.study: is the study itself; name another one")
    replace(folder, "study: small", "study: turned")
    (bundle,) = bundles(folder)
    shutil.rmtree(bundle)
    refused = folder.call("run", "small.yaml")
    assert_refused(refused, "line 2: init_from.study: ", "run the study 'turned' again to write its best trial's")
    assert_refused(folder.call("status", "small"), "no study 'small'")


@pytest.mark.slow
def test_an_unfinished_study_and_one_with_another_split_are_refused(copy: Callable[[str], Folder]) -> None:
    folder = copy("unfinished")
    replace(folder, "n_trials: 2", "n_trials: 500", "turned.yaml")
    run = folder.start("run", "turned.yaml", "--workers", "1")
    run.wait_for(r"^trial \d")
    run.terminate()
    run.wait()
    refused = folder.call("run", "small.yaml")
    assert_refused(
        refused,
        " of 500 trials of the study 'turned' have ended; wait for it to finish, or continue it with: ",
        "mnist-hpo run STUDY.yaml",
    )

    # On its own dataset a study may start from train of the same split, not of another one.
    folder = copy("split")
    text = SOURCE.replace("name: turned", "name: small\ninit_from: turned")
    (folder.path / "small.yaml").write_text(text.replace("seed: 5", "seed: 6"))
    folder.run()
    (folder.path / "small.yaml").write_text(text.replace("name: small", "name: other\nsplit: paper"))
    refused = folder.call("run", "small.yaml")
    assert_refused(
        refused, "line 3: init_from: the model was trained on this study's own dataset with the split standard"
    )
