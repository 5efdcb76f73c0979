"""The summary of a study for MLflow, checked on invented trials whose figures can be calculated by hand."""

import csv
import dataclasses
import io
import re
from pathlib import Path

import matplotlib.image
import pytest

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.study import Objective, Study
from mnist_hpo.storage.records import TrialRecord, TrialState
from mnist_hpo.tracking.plots import write_plots
from mnist_hpo.tracking.summary import experiment_tags, parent_note, progress, trials_csv
from mnist_hpo.tracking.trial_run import columns

STUDY = Study.model_validate(
    {
        "name": "made-up",
        "description": "Widths <against> rates.",
        "budget": {"n_trials": 5, "max_epochs": 2},
        "space": {
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            "width": {"type": "categorical", "choices": [16, 32]},
        },
        "fixed": {"depth": 1, "batch_size": 500},
    }
)


def trial(number: int, state: TrialState, *losses: float, ended_unix_s: float | None = None) -> TrialRecord:
    epochs = {
        epoch: EpochResult(epoch, loss, loss, 1 - loss, 0.5, 0.1, 0.0, 0.75, 1000.0 + epoch)
        for epoch, loss in enumerate(losses, start=1)
    }
    value = min(losses) if state == "complete" else None
    parameters = {"learning_rate": 10.0 ** -(1 + number % 3), "width": 16 if number % 2 else 32}
    reason = "diverged at epoch 1" if state == "failed" else None
    return TrialRecord(number, state, parameters, epochs, value, reason, 1000.0, ended_unix_s)


TRIALS = [
    trial(0, "complete", 0.5, 0.4, ended_unix_s=1030.0),
    trial(1, "failed", ended_unix_s=1010.0),
    trial(2, "complete", 0.2, 0.3, ended_unix_s=1040.0),
    trial(3, "pruned", 0.9, ended_unix_s=1020.0),
    trial(4, "running", 0.1),
]


def test_progress_has_one_step_per_ended_trial_in_order_of_time() -> None:
    points = {(metric.key, metric.step): (metric.value, metric.timestamp) for metric in progress(TRIALS, n_known=0)}
    assert {step for _, step in points} == {1, 2, 3, 4}
    assert points["n_failed", 1] == (1, 1_010_000)
    assert points["n_pruned", 2] == (1, 1_020_000)
    assert ("best_valid_loss", 2) not in points
    assert points["best_valid_loss", 3] == (0.4, 1_030_000)
    assert points["best_valid_loss", 4] == (0.2, 1_040_000)
    assert [points["n_complete", step][0] for step in (1, 2, 3, 4)] == [0, 0, 1, 2]


def test_progress_continues_from_its_last_step() -> None:
    everything = progress(TRIALS, n_known=0)
    assert progress(TRIALS, n_known=3) == [metric for metric in everything if metric.step == 4]
    assert progress(TRIALS, n_known=4) == []


def test_tags_of_the_experiment() -> None:
    tags = experiment_tags(STUDY, TRIALS, "running")
    assert (tags["state"], tags["trials"], tags["best_valid_loss"]) == ("running", "4 of 5", "0.20000")
    assert tags["mlflow.note.content"] == "valid_loss 0.20000 · Widths <against> rates."
    assert experiment_tags(STUDY, [], "running")["mlflow.note.content"] == "Widths <against> rates."


def test_tags_and_description_name_the_metric_of_the_objective() -> None:
    study = STUDY.model_copy(update={"objectives": (Objective(metric="valid_accuracy"),)})
    trials = [dataclasses.replace(TRIALS[0], value=0.6, signs=(-1,))]
    tags = experiment_tags(study, trials, "running")
    assert "best_valid_loss" not in tags
    assert tags["best_valid_accuracy"] == "0.60000"
    assert tags["mlflow.note.content"].startswith("valid_accuracy 0.60000")
    assert "best valid_accuracy **0.60000**" in parent_note(study, trials, "running")


def test_the_parent_runs_description_ranks_the_complete_trials() -> None:
    rows = [line for line in parent_note(STUDY, TRIALS, "running").splitlines() if line.startswith("| #")]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| #002", "0.20000", "80.00 %"],
        ["| #000", "0.40000", "60.00 %"],
    ]


def test_the_table_has_every_trial() -> None:
    rows = list(csv.DictReader(io.StringIO(trials_csv(STUDY, TRIALS))))
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["state"] for row in rows] == [one.state for one in TRIALS]
    assert rows[1]["reason"] == "diverged at epoch 1"
    assert rows[1]["best_valid_loss"] == ""
    assert (rows[2]["best_valid_loss"], rows[2]["best_epoch"], rows[2]["width"]) == ("0.2", "1", "32")


def test_the_columns_of_a_trial_equal_a_calculation_by_hand() -> None:
    found = columns(STUDY, TRIALS[2])
    assert found["best_valid_accuracy"] == 1 - 0.2
    assert (found["epochs"], found["seconds"]) == (2, 1.5)
    # One hidden layer of 32: 784·32 + 32 + 32·10 + 10.
    assert found["model_parameters"] == 25_450
    # Two epochs of 50,000 digits: 4 FLOPs per weight of the first layer, 6 per weight of the second.
    assert found["train_tflop"] == pytest.approx(2 * 50_000 * (4 * 784 * 32 + 6 * 32 * 10) / 1e12)


def test_plots_need_no_network_and_are_reproducible(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write_plots(STUDY, TRIALS, tmp_path / folder)
    page = (tmp_path / "first" / "plots.html").read_text()
    assert "Widths &lt;against&gt; rates." in page
    assert "<script src=" not in page
    for name in ("plots.html", "plots.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    height, width, _ = matplotlib.image.imread(tmp_path / "first" / "plots.png").shape
    assert min(height, width) > 600


def test_plots_have_integer_ticks_for_trials_and_epochs(tmp_path: Path) -> None:
    write_plots(STUDY, TRIALS, tmp_path)
    titles_and_steps = re.findall(
        r'"title":\{"text":"(\w+)"\},[^{}]*?"dtick":([\d.]+)', (tmp_path / "plots.html").read_text()
    )
    assert {("trial", "1"), ("epoch", "1")} <= set(titles_and_steps)


@pytest.mark.parametrize(
    "trials",
    [[], TRIALS[:1], TRIALS[1:2], [trial(0, "paused", 0.3), trial(1, "failed")]],
    ids=["none", "one", "one that diverged", "one that waits and one that diverged"],
)
def test_plots_can_be_drawn_for_very_few_trials(tmp_path: Path, trials: list[TrialRecord]) -> None:
    write_plots(STUDY, trials, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"plots.html", "plots.png"}
