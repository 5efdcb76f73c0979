"""`retrain` and `sync` refuse a study in use, and a killed `retrain` keeps the old champion."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import TIMEOUT_S, Call, Folder, assert_refused
from mlflow import MlflowClient

from mnist_hpo.storage.lock import study_lock

CopyOf = Callable[[Folder], Folder]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def copy(retrained: Folder, copy_of: CopyOf) -> Folder:
    folder = copy_of(retrained)
    shutil.copytree(retrained.path / "mlruns" / "champions", folder.path / "mlruns" / "champions")
    return folder


@pytest.mark.parametrize("verb", ["retrain", "sync"])
def test_a_study_in_use_is_refused(copy: Folder, verb: str) -> None:
    """The commands train nothing before they refuse, and do not mark active runs as interrupted."""
    champions = copy.path / "mlruns" / "champions"
    before = files_of(champions)
    with study_lock(f"sqlite:///{copy.storage}", "small"):
        assert_refused(
            copy.call(verb, "small"), f"'small' is in use by process {os.getpid()} on ", "wait until it ends"
        )
    assert files_of(champions) == before


@pytest.mark.slow
def test_run_and_sync_are_refused_while_retrain_runs(copy: Folder) -> None:
    retrain = suspend_while_training(copy)
    for arguments in (("run", "small.yaml"), ("retrain", "small", "--trial", "0"), ("sync", "small")):
        assert_refused(copy.call(*arguments), f"'small' is in use by process {retrain.process.pid} on ")
    retrain.resume()
    assert retrain.wait().code == 0


@pytest.mark.slow
def test_a_killed_retrain_keeps_the_old_champion(copy: Folder) -> None:
    (champions,) = (copy.path / "mlruns" / "champions").iterdir()
    (tested,) = champions.iterdir()
    before = files_of(tested)
    retrain = suspend_while_training(copy)
    retrain.process.kill()
    retrain.wait()
    assert files_of(tested) == before
    assert copy.call("report", "small").code == 0
    again = copy.call("retrain", "small", "--seeds", "1")
    assert again.code == 0, again.err
    assert list(champions.iterdir()) == [tested], "all files of the killed process are removed"
    assert files_of(tested)["report/champion.json"] != before["report/champion.json"]
    client = MlflowClient(copy.tracking_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}


@pytest.mark.slow
def test_a_killed_retrain_is_continued(copy: Folder, retrained: Folder) -> None:
    """A training that was finished before the kill is not repeated, and the figures are those of an undisturbed run."""
    retrain = suspend_while_training(copy, "seed-0")
    retrain.process.kill()
    retrain.wait()
    (finished,) = (copy.path / "mlruns" / "champions").glob("*/unfinished-*/again.safetensors")
    inode = finished.stat().st_ino
    again = copy.start("retrain", "small", "--seeds", "2", "--json")
    while again.process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # It is deleted at the end.
            assert finished.stat().st_ino == inode, "the training was repeated"
        time.sleep(0.01)
    figures, undisturbed = again.wait().json(), json.loads((retrained.path / "champion.json").read_text())
    assert figures["reproduced"] == "exact"
    assert figures["test_accuracy"] == undisturbed["test_accuracy"]
    assert not finished.parent.exists()


def suspend_while_training(folder: Folder, checkpoint: str = "*") -> Call:
    """Start a long `retrain` and send it SIGSTOP while it trains, once there is a checkpoint of this name."""
    retrain = folder.start("retrain", "small", "--seeds", "20", "--workers", "1")
    deadline = time.monotonic() + TIMEOUT_S
    while not list((folder.path / "mlruns" / "champions").glob(f"*/unfinished-*/{checkpoint}.safetensors")):
        assert retrain.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    retrain.process.send_signal(signal.SIGSTOP)
    return retrain
