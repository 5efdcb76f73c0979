"""Where trainings overfit, by the record of their losses."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import pytest
from simulated_study import study_of

from mnist_hpo.analysis.charts.figure import Chart
from mnist_hpo.analysis.overfitting import Overfitting, overfitting_trials, spread
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.report.blocks import Points, Section, Table
from mnist_hpo.report.page import report_html
from mnist_hpo.report.sections.overfitting import overfitting
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord

RISING = [0.9, 0.5, 0.4, 0.45, 0.44, 0.5, 0.55, 0.6, 0.6, 0.7]
"""The lowest is epoch 3; five epochs later, early stopping ends the training at epoch 8."""
FALLING_TRAIN = [1 / epoch for epoch in range(1, 11)]


def trial(
    number: int, valid: Sequence[float], train: Sequence[float] = FALLING_TRAIN, *, width: int = 128, n: int = 1000
) -> TrialRecord:
    epochs = {
        epoch: EpochResult(epoch, train_loss, loss, 0.9, 0.5, 0.5, 0.25 * (epoch == 1), 1 + 0.25 * (epoch == 1), 0.0)
        for epoch, (loss, train_loss) in enumerate(zip(valid, train, strict=False), start=1)
    }
    costs = {"n_parameters": n, "flops": 1, "train_flops": 1, "epoch_cost": 1}
    parameters = {"width": width}
    return TrialRecord(number, "complete", parameters, epochs, min(valid), started_at_units=(0,), costs=costs)


def study(**changes: Any) -> Study:
    space = {"width": {"type": "categorical", "choices": [32, 64, 128, 256, 512, 1024, 2048, 4096]}}
    return study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 1, "max_epochs": 10}, **changes)


def found(*trials: TrialRecord) -> list[Overfitting]:
    return overfitting_trials(study(), trials)


def section(*trials: TrialRecord) -> Section:
    view = StudyView(study(), "", {}, trials)
    assert "Overfitting" in report_html(view, [])
    (only,) = overfitting(view)
    return only


def test_a_training_overfits_from_its_lowest_valid_loss_on() -> None:
    (entry,) = found(trial(0, RISING))
    assert (entry.best_epoch, entry.stop_epoch, entry.n_saved) == (3, 8, 2)
    assert (entry.lowest_loss, entry.kept_loss, entry.last_loss) == (0.4, 0.4, 0.7)
    # Ten epochs of a second each, without the quarter of a second of compiling.
    assert (entry.seconds, entry.saved_s) == (10, 2)


@pytest.mark.parametrize(
    ("valid", "train"),
    [
        pytest.param([1.0] + [0.5] * 9, FALLING_TRAIN, id="valid_loss does not rise"),
        pytest.param(RISING, RISING, id="train_loss rises too"),
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], FALLING_TRAIN, id="only four epochs after it"),
        pytest.param([0.4], [1.0], id="a single epoch"),
    ],
)
def test_other_trainings_do_not_overfit(valid: list[float], train: list[float]) -> None:
    assert found(trial(0, valid, train)) == []
    assert overfitting(StudyView(study(), "", {}, (trial(0, valid, train),))) == []


def test_a_training_that_would_have_stopped_before_its_lowest_loss_says_what_it_misses() -> None:
    late = [0.5, 0.4, 0.45, 0.45, 0.45, 0.45, 0.45, 0.45, 0.38, 0.5, 0.5, 0.5, 0.5, 0.6]
    (entry,) = found(trial(0, late, [1 / epoch for epoch in range(1, 15)]))
    assert (entry.best_epoch, entry.stop_epoch, entry.kept_epoch, entry.kept_loss) == (9, 7, 2, 0.4)
    (points,) = (
        block
        for block in section(trial(0, late, [1 / epoch for epoch in range(1, 15)])).blocks
        if isinstance(block, Points)
    )
    assert "1 of the 1 trainings would have stopped before their lowest valid_loss, and missed 0.0200" in " ".join(
        points.sentences
    )


def test_growing_shares_of_the_data_are_no_overfitting() -> None:
    svm = study(model="svm").model_copy(update={"space": {}})
    assert overfitting_trials(svm, [trial(0, RISING)]) == []


def test_trainings_are_in_the_order_of_their_parameters_and_drawn_with_different_ones() -> None:
    trials = [trial(i, RISING, width=32 * 2 ** (i % 8), n=1000 - i % 8) for i in range(24)]
    entries = found(*trials)
    sizes = [entry.n_parameters for entry in entries]
    assert sizes == sorted(sizes)
    drawn = spread(entries, 3)
    assert [entry.n_parameters for entry in drawn] == [993, 996, 1000]
    assert len(spread(entries, 100)) == 8


def test_the_section_marks_the_lowest_loss_and_what_early_stopping_saves() -> None:
    shown = section(trial(0, RISING, n=2000, width=256), trial(1, RISING, n=1000))
    charts = [block for block in shown.blocks if isinstance(block, Chart)]
    for chart in charts[:2]:
        stars = [trace for trace in chart.data if trace["mode"] == "markers"]
        assert [(star["trials"], star["x"]) for star in stars] == [([1], [3]), ([0], [3])]
    assert [trace["y"] for trace in charts[0].data if trace["mode"] == "lines"] == [RISING, RISING]
    saved = next(trace for trace in charts[2].data if trace["name"] == "saved by early stopping")
    assert saved["x"] == [2, 2]
    (table,) = (block for block in shown.blocks if isinstance(block, Table))
    assert table.rows[0] == [
        "#1", "1,000", "0.4000 at 3", "0.7000 at 10", "0.3333 → 0.1", "8", "2 (20% of the time)", "0.3000", "128",
    ]  # fmt: skip
    (points,) = (block for block in shown.blocks if isinstance(block, Points))
    assert re.search(r"saved 4 of 20 epochs and 4\.0 s of 20\.0 s \(20%\)", points.sentences[0])


def test_of_many_trials_thirty_are_listed() -> None:
    trials = [dataclasses.replace(trial(i, RISING), parameters={"width": 32, "depth": i}) for i in range(50)]
    shown = section(*trials)
    (table,) = (block for block in shown.blocks if isinstance(block, Table))
    assert len(table.rows) == 30
    assert "30 of them, evenly spaced, are shown" in shown.lead
