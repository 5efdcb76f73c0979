"""A study and a model recorded by an earlier version: `tests/fixtures/recorded`, written by commit a1e926c.

That version wrote records of format 1, which lack costs and contain every field of the study file.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from command import Folder

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.storage.study_storage import StudyStorage

RECORDED = Path(__file__).parents[1] / "fixtures" / "recorded"
HISTORY_SHA256 = "302de10f011818ab859a3f551237308d1b5ccf5dfde694cbd3d3fa02306e3d02"


@pytest.fixture
def folder(tmp_path: Path, mnist: PreparedDataset) -> Folder:
    """A folder with the record, changed to look as if it had been written on this machine."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(RECORDED / "recorded.yaml", tmp_path)
    shutil.copy(RECORDED / "optuna.db", tmp_path / "mlruns")
    with sqlite3.connect(tmp_path / "mlruns" / "optuna.db") as database:
        (text,) = database.execute(
            "SELECT value_json FROM study_user_attributes WHERE key = 'mnist_hpo:context'"
        ).fetchone()
        recorded = json.loads(text)
        assert recorded["dataset_digest"] == mnist.digest
        here = {name: value for name, value in provenance().items() if name in recorded}
        database.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'mnist_hpo:context'",
            (json.dumps(recorded | here),),
        )
    database.close()
    return Folder(tmp_path)


def status_of(folder: Folder) -> dict[str, object]:
    return folder.call("status", "recorded", "--json").json()


def test_an_earlier_record_has_the_same_status(folder: Folder) -> None:
    status = status_of(folder)
    assert status["history_sha256"] == HISTORY_SHA256
    assert (status["state"], status["n_epochs"]) == ("complete", 14)
    assert folder.call("report", "recorded", "-o", "page.html").code == 0


def test_an_earlier_record_is_recognised_as_complete(folder: Folder) -> None:
    outcome = folder.call("run", "recorded.yaml", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json()["history_sha256"] == HISTORY_SHA256


def test_an_earlier_record_can_be_extended(folder: Folder) -> None:
    before = folder.call("trials", "recorded", "--json").json()
    file = folder.path / "recorded.yaml"
    file.write_text(file.read_text().replace("n_trials: 5", "n_trials: 6"))
    outcome = folder.call("run", "recorded.yaml", "--json")
    assert outcome.code == 0, outcome.err
    after = folder.call("trials", "recorded", "--json").json()
    assert after[:5] == before
    assert after[5]["state"] in ("complete", "pruned")


def test_a_changed_file_is_refused_with_a_diff(folder: Folder) -> None:
    file = folder.path / "recorded.yaml"
    file.write_text(file.read_text().replace("reduction_factor: 2", "reduction_factor: 3"))
    outcome = folder.call("run", "recorded.yaml")
    assert outcome.code == 2
    assert "-  reduction_factor: 2" in outcome.err
    assert "+  reduction_factor: 3" in outcome.err


def test_a_record_of_a_newer_version_is_refused(folder: Folder) -> None:
    with sqlite3.connect(folder.storage) as database:
        (study_id,) = database.execute("SELECT study_id FROM studies").fetchone()
        database.execute(
            "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (?, 'mnist_hpo:format', '99')",
            (study_id,),
        )
    database.close()
    with pytest.raises(UserError, match="format 99, from a newer mnist-hpo"):
        StudyStorage.load(f"sqlite:///{folder.storage}", "recorded")
    assert "format 99" in folder.call("run", "recorded.yaml").err


def test_the_best_model_of_an_earlier_version_predicts_as_recorded(mnist: PreparedDataset) -> None:
    bundle = load_bundle(RECORDED / "best")
    valid = load_search(mnist.directory, "standard")
    log_probabilities = bundle.log_probabilities(valid.valid_images)
    losses = -log_probabilities[np.arange(len(valid.valid_labels)), valid.valid_labels]
    assert float(np.mean(losses, dtype=np.float64)) == pytest.approx(bundle.provenance["valid_loss"], rel=1e-4)
