"""`mnist-hpo paper` tests every method, and uses again what it has recorded."""

import json
from pathlib import Path

import pytest
from command import ROOT, Folder, assert_refused
from jsonschema import Draft202012Validator

from mnist_hpo.api.paper import FULL, QUICK, study_file
from mnist_hpo.api.studies import checked_study
from mnist_hpo.data.prepared import PreparedDataset

METHODS = {
    "mlp": 0.9,
    "mlp_augmented": 0.9,
    "cnn": 0.92,
    "cnn_ensemble": 0.92,
    "svm": 0.9,
    "knn": 0.85,
    "forest": 0.85,
    "logistic": 0.8,
    "rnn": 0.7,
    "transformer": 0.7,
}
"""Accuracies that a broken model would miss."""


@pytest.mark.parametrize("row", [*FULL, *QUICK], ids=lambda row: f"{row.method}-{row.study}")
def test_every_row_has_a_valid_study(row: object) -> None:
    study = checked_study(study_file(row.study)).study
    assert study.split == ("paper" if row.study == "paper" else "standard")
    assert row.top <= study.budget.n_trials


def test_both_forms_compare_the_same_methods() -> None:
    assert {row.method for row in FULL} == {row.method for row in QUICK} == METHODS.keys()


@pytest.fixture(scope="module")
def folder(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("paper"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_method_of_the_short_form_learns(folder: Folder) -> None:
    outcome = folder.call("paper", "--quick", "--json", "--picture", "paper.png", "--markdown", "paper.md")
    assert outcome.code == 0, outcome.err
    document = outcome.json()
    schema = json.loads((ROOT / "docs" / "schemas" / "paper.schema.json").read_text())
    Draft202012Validator(schema).validate(document)
    rows = {row["method"]: row for row in document["rows"]}
    assert rows.keys() == METHODS.keys()
    for method, floor in METHODS.items():
        assert rows[method]["test_accuracy_mean"] > floor, method
        assert rows[method]["n_seeds"] == 2
        assert rows[method]["train_s"] > 0
        assert rows[method]["predict_us"] > 0
    assert rows["cnn_ensemble"]["n_parameters"] > rows["cnn"]["n_parameters"]
    assert (folder.path / "paper.png").read_bytes().startswith(b"\x89PNG")
    table = (folder.path / "paper.md").read_text().splitlines()
    for line, row in zip(table[2:], document["rows"], strict=True):
        assert f"{100 * row['test_accuracy_mean']:.2f} ± {100 * row['test_accuracy_std']:.2f} %" in line
        assert (ROOT / row["study_file"]).is_file()
        assert f"[{row['study']}]({row['study_file']})" in line
    # Everything is recorded, so a second call trains nothing and prints the same figures.
    again = folder.call("paper", "--quick", "--json")
    assert "complete:" not in again.err
    for before, after in zip(document["rows"], again.json()["rows"], strict=True):
        del before["predict_us"], after["predict_us"]
        assert before == after


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    assert_refused(Folder(tmp_path).call("paper", "--quick", "--method", "gan"), "--method", "gan", "known are mlp")
