"""Records that were changed by hand: one clear message names the place."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from command import Folder, assert_refused, retrained_small

from mnist_hpo.data.prepared import PreparedDataset

READERS = (["status", "small"], ["trials", "small"], ["report", "small"], ["run", "small.yaml"])


@pytest.fixture
def recorded(finished: Folder, tmp_path: Path, shared_tracking: str) -> Folder:
    """A copy of the finished study, to be damaged."""
    folder = Folder(tmp_path, shared_tracking)
    finished.copy_record(folder)
    return folder


@pytest.fixture
def champions(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory, recorded: Folder) -> Path:
    """A folder with test results of trial 0, to be damaged."""
    retrained = retrained_small(tmp_path_factory.getbasetemp())
    (source,) = (retrained.path / "mlruns" / "champions").glob("*/trial-*/report")
    target = recorded.path / source.relative_to(retrained.path)
    target.mkdir(parents=True)
    for name in ("champion.json", "predictions.npz"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def alter(folder: Folder, statement: str, *values: object) -> None:
    with sqlite3.connect(folder.storage) as connection:
        assert connection.execute(statement, values).rowcount == 1


def alter_first_epoch(folder: Folder, change: Any) -> None:
    (text,) = sqlite3.connect(folder.storage).execute(FIRST_EPOCH.format("SELECT value_json FROM")).fetchone()
    alter(folder, FIRST_EPOCH.format("UPDATE").replace("WHERE", "SET value_json = ? WHERE"), change(json.loads(text)))


FIRST_EPOCH = "{} trial_user_attributes WHERE key = 'epoch:1' AND trial_id = 1"
EPOCHS = {
    "a field is gone": (
        lambda epoch: json.dumps({key: value for key, value in epoch.items() if key != "train_loss"}),
        "train_loss: Field required",
    ),
    "another type": (
        lambda epoch: json.dumps(epoch | {"valid_loss": [1]}),
        "valid_loss: Input should be a valid number",
    ),
    "another loss": (lambda epoch: json.dumps(epoch | {"valid_loss": 0.01}), "epoch 1 has valid_loss"),
    "another epoch": (lambda epoch: json.dumps(epoch | {"epoch": 2}), "of epoch 2 in another"),
    "no object": (lambda _epoch: "3", "Input should be a dictionary"),
    "no JSON": (lambda _epoch: "{", "optuna.db"),
}


@pytest.mark.parametrize(("change", "message"), EPOCHS.values(), ids=EPOCHS.keys())
def test_a_damaged_epoch_is_named(recorded: Folder, change: Any, message: str) -> None:
    alter_first_epoch(recorded, change)
    for verb in READERS[:1] if message != "epoch 1 has valid_loss" else READERS:
        assert_refused(recorded.call(*verb), "optuna.db", message)


def test_an_epoch_without_its_results_is_named(recorded: Folder) -> None:
    alter(recorded, FIRST_EPOCH.format("DELETE FROM"))
    assert_refused(recorded.call("status", "small"), "trial 0 of the study 'small'", "'epoch:1' is missing")


def test_a_trial_in_the_state_waiting_is_refused(recorded: Folder) -> None:
    alter(recorded, "UPDATE trials SET state = 'WAITING' WHERE number = 7")
    assert_refused(recorded.call("status", "small"), "trial 7", "its state is WAITING")


def test_a_study_of_another_program_is_refused(recorded: Folder) -> None:
    optuna.create_study(storage=f"sqlite:///{recorded.storage}", study_name="theirs")
    for verb in ("status", "trials", "best", "report", "sync"):
        assert_refused(recorded.call(verb, "theirs"), "'theirs'", "not mnist-hpo's")


@pytest.mark.slow
def test_a_file_in_the_place_of_the_best_model_is_replaced(recorded: Folder, status: dict[str, Any]) -> None:
    uid = optuna.load_study(study_name="small", storage=f"sqlite:///{recorded.storage}").user_attrs["mnist_hpo:uid"]
    bundle = recorded.path / "mlruns" / "checkpoints" / f"small-{uid[:8]}" / f"best-{status['best']['number']:05d}"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("mine")
    assert recorded.call("run", "small.yaml").code == 0
    assert (bundle / "model.json").exists(), "the model replaces the file"


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\3\4garbage", b"\x93NUMPY", b"[" * 100_000])
@pytest.mark.parametrize("name", ["predictions.npz", "champion.json"])
def test_a_damaged_test_result_is_named(recorded: Folder, champions: Path, name: str, content: bytes) -> None:
    (champions / name).write_bytes(content)
    number = int(champions.parent.name.removeprefix("trial-"))
    refused = recorded.call("compare", "--runs", f"small:{number}", "small:1")
    assert_refused(refused, f"{name}: damaged", "mnist-hpo retrain small")
