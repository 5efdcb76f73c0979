"""The transfer studies in `studies/transfer` differ only in their initial weights."""

from pathlib import Path

import pytest
from command import ROOT

from mnist_hpo.search.check import check_study
from mnist_hpo.spec.reader import read_study

FILES = sorted((ROOT / "studies" / "transfer").glob("*.yaml"))
SHARES = {"1": 500, "10": 5000, "100": None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_a_valid_study(path: Path) -> None:
    check_study(read_study(path))


@pytest.mark.parametrize("share", SHARES)
def test_studies_with_the_same_number_of_labels_differ_only_in_init_from(share: str) -> None:
    studies = [read_study(path).study for path in FILES if path.stem.startswith(f"{share}_")]
    assert len(studies) == 4
    assert [study.fixed.get("n_train") for study in studies] == [SHARES[share]] * 4
    assert sorted(str(study.init_from is None) for study in studies) == ["False"] * 3 + ["True"]
    for study in studies:
        assert study.init_from is None or study.init_from.study == "transfer_fashion"
    rest = [{**study.identity(), "name": None, "init_from": None} for study in studies]
    assert [study.budget for study in studies] == [studies[0].budget] * 4
    assert rest == [rest[0]] * 4


def test_each_learning_rate_has_the_same_number_of_seeds() -> None:
    for path in FILES:
        study = read_study(path).study
        rates = [parameters["learning_rate"] for parameters in study.enqueue]
        assert len(rates) in (0, study.budget.n_trials)
        assert len({rates.count(rate) for rate in rates}) <= 1
