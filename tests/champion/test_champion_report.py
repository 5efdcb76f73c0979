"""The report of a study whose best trial was really re-trained and tested."""

from typing import Any

import pytest
from command import Folder


def test_the_report_shows_the_champions_test(retrained: Folder, figures: dict[str, Any]) -> None:
    outcome = retrained.call("report", "small", "-o", "small.html")
    assert outcome.code == 0, outcome.err
    page = (retrained.path / "small.html").read_text(encoding="utf-8")
    assert f"{100 * figures['test_accuracy_mean']:.2f} ± {100 * figures['test_accuracy_std']:.2f} %" in page
    assert "Confusion matrix of the test" in page
    for element in ("figcaption", "caption"):
        assert f"<{element}>Seed 0 of #{figures['trial']}</{element}>" in page
    assert "mnist-hpo retrain small" not in page
    recall = figures["confusion_matrix"][3][3] / sum(figures["confusion_matrix"][3])
    assert f"<td>{100 * recall:.2f} %</td>" in page
    assert 0.5 < figures["test_accuracy_mean"] == pytest.approx(sum(figures["test_accuracy"]) / 2)
