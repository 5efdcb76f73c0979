"""A short form of studies/overfitting.yaml: every network overfits, the larger ones sooner, and the report says so."""

import re
from pathlib import Path

import pytest
from command import ROOT, make_folder

from mnist_hpo.data.prepared import PreparedDataset


@pytest.mark.slow
def test_larger_networks_overfit_sooner_and_the_report_says_so(mnist: PreparedDataset, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "overfitting")
    text = (ROOT / "studies" / "overfitting.yaml").read_text()
    for name, value in {"n_trials": 5, "max_epochs": 40, "n_train": 500, "batch_size": 20}.items():
        text, n_changed = re.subn(rf"\b{name}: \d+", f"{name}: {value}", text)
        assert n_changed == 1
    (folder.path / "small.yaml").write_text(text)
    folder.run()
    trials = folder.call("trials", "overfitting", "--json").json()
    assert [trial["params"]["width"] for trial in trials] == [8, 32, 128, 512, 1024]
    assert trials[0]["best_epoch"] > trials[2]["best_epoch"] > 1
    assert trials[0]["best_epoch"] > trials[4]["best_epoch"] > 1
    assert trials[0]["best_valid_loss"] > trials[4]["best_valid_loss"]
    for trial in trials:
        assert trial["valid_loss"]["40"] > trial["best_valid_loss"]
    assert folder.call("report", "overfitting").code == 0
    page = (folder.path / "overfitting.html").read_text()
    assert "5 of 5 trials overfit" in page
    assert "Early stopping would have saved" in page
