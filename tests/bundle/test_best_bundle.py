"""Without its checkpoint the best trial is trained again; its model is written only if it equals the record."""

import json
import sqlite3
from pathlib import Path

import pytest
from command import Folder, make_folder

from mnist_hpo.bundle.bundle import load_bundle


def best_bundle(folder: Folder, number: int) -> Path | None:
    return next((folder.path / "mlruns" / "checkpoints").rglob(f"best-{number:05d}"), None)


@pytest.mark.slow
def test_a_best_model_that_is_trained_again_equals_the_recorded_one(finished: Folder, tmp_path: Path) -> None:
    best = finished.status()["best"]
    folder = make_folder(tmp_path, "without-checkpoints")
    finished.copy_record(folder, "optuna.db")
    folder.run()
    found, recorded = best_bundle(folder, best["number"]), best_bundle(finished, best["number"])
    assert found is not None
    assert recorded is not None
    assert load_bundle(found).provenance["valid_loss"] == best["value"]
    assert (found / "model.safetensors").read_bytes() == (recorded / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_training_that_differs_from_the_record_writes_no_model(finished: Folder, tmp_path: Path) -> None:
    """One recorded training loss differs in its last bit, as on a machine that rounds differently."""
    best = finished.status()["best"]
    folder = make_folder(tmp_path, "differing")
    finished.copy_record(folder, "optuna.db")
    with sqlite3.connect(folder.storage) as connection:
        where = "key = 'epoch:2' AND trial_id = (SELECT trial_id FROM trials WHERE number = ?)"
        query = f"SELECT value_json FROM trial_user_attributes WHERE {where}"
        (text,) = connection.execute(query, [best["number"]]).fetchone()
        epoch = json.loads(text)
        epoch["train_loss"] *= 1 + 2**-52
        change = f"UPDATE trial_user_attributes SET value_json = ? WHERE {where}"
        connection.execute(change, [json.dumps(epoch), best["number"]])
    outcome = folder.call("run", "small.yaml", "--json")
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert f"error: trial {best['number']}, the best: epoch 2 has " in outcome.err
    assert best_bundle(folder, best["number"]) is None
    assert folder.status()["state"] == "complete"


@pytest.mark.slow
def test_a_file_in_the_place_of_the_best_model_is_replaced(finished: Folder, tmp_path: Path) -> None:
    best = finished.status()["best"]
    folder = make_folder(tmp_path, "file")
    finished.copy_record(folder, "optuna.db")
    recorded = best_bundle(finished, best["number"])
    assert recorded is not None
    damaged = folder.path / recorded.relative_to(finished.path)
    damaged.parent.mkdir(parents=True)
    damaged.write_text("not a model")
    folder.run()
    assert load_bundle(damaged).provenance["trial"] == best["number"]
