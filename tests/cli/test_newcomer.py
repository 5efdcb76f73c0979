"""What a new user sees first: help, tables on narrow terminals, a study that was stopped."""

import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pandas as pd
import pytest
from command import Folder
from simulated_study import run_simulated, study_of

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trials_table import trials_frame

HOLD = """\
import sys, time
from mnist_hpo.storage.lock import study_lock
with study_lock(sys.argv[1], "large"):
    print("held", flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, StudyView]:
    """A folder with a study that was stopped while trials were running, and a view of the study."""
    path = tmp_path_factory.mktemp("stopped")
    return Folder(path), run_simulated(path, study_of(), stop_after=15)


@pytest.fixture
def coordinator(stopped: tuple[Folder, StudyView]) -> Generator[None]:
    """Another process that holds the study's lock."""
    folder, _ = stopped
    command = [sys.executable, "-c", HOLD, f"sqlite:///{folder.path}/mlruns/optuna.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["trials", "--help"], ["bench", "--help"], ["bench", "replay", "--help"]],
)
def test_help_shows_no_type_for_flags(tmp_path: Path, arguments: list[str]) -> None:
    outcome = Folder(tmp_path).call(*arguments)
    assert outcome.code == 0, outcome.err
    assert "--help" in outcome.out
    assert "<bool>" not in outcome.out


@pytest.mark.parametrize("columns", [30, 60, 80, 120])
@pytest.mark.parametrize("sort", ["valid_accuracy", "train_flops"])
def test_numbers_are_not_truncated_on_a_narrow_terminal(
    stopped: tuple[Folder, StudyView], columns: int, sort: str
) -> None:
    folder, view = stopped
    screen = folder.call_on_terminal(columns, "trials", "large", "--state", "complete", "--sort", sort)
    assert "…" not in screen
    frame = trials_frame(view.study, view.trials)
    for row in frame.loc[frame["state"] == "complete"].to_dict("records"):
        shown = f"{row['valid_loss']:.5f}"
        sorted_by = {
            "valid_accuracy": f"{100 * row['valid_accuracy']:.2f} %",
            "train_flops": f"{row['train_flops']:.2e}",
        }[sort]
        for text in (shown, sorted_by):
            assert re.search(rf"(?<![\d.]){re.escape(text)}(?![\d.])", screen), text
    lines = screen.splitlines()
    assert all(len(line) <= columns for line in lines if "trial" not in line and "narrow" not in line) or columns == 30


def test_columns_that_do_not_fit_are_named_with_a_way_to_see_them(stopped: tuple[Folder, StudyView]) -> None:
    folder, _ = stopped
    screen = folder.call_on_terminal(60, "trials", "large", "--sort", "valid_accuracy")
    assert re.search(r"too narrow for [a-z_, ]+: widen the terminal, or write all columns with --csv FILE", screen)
    assert "too narrow" not in folder.call_on_terminal(200, "trials", "large", "--sort", "valid_accuracy")


def test_running_trials_of_a_stopped_study_are_shown_as_interrupted(stopped: tuple[Folder, StudyView]) -> None:
    folder, view = stopped
    n_running = sum(trial.state == "running" for trial in view.trials)
    assert n_running
    status = folder.call("status", "large")
    assert f"{n_running} interrupted" in status.out
    assert "running" not in status.out
    table = folder.call("trials", "large").out
    assert len(re.findall(r"^ *\d+ +interrupted", table, re.MULTILINE)) == n_running
    assert "running" not in table
    number = next(trial.number for trial in view.trials if trial.state == "running" and trial.epochs)
    compared = folder.call("compare", "--runs", f"large:{number}", "large:0").out
    assert "the trial is interrupted" in compared
    assert "running" not in compared
    assert folder.call("report", "large", "-o", "large.html").code == 0
    page = (folder.path / "large.html").read_text(encoding="utf-8")
    assert f"{n_running} interrupted" in page
    assert f"<b>trial #{number}</b>: interrupted".replace("<", "\\u003c") in page


def test_machine_readable_output_has_the_recorded_state(stopped: tuple[Folder, StudyView]) -> None:
    folder, view = stopped
    n_running = sum(trial.state == "running" for trial in view.trials)
    status = folder.call("status", "large", "--json").json()
    assert (status["n_trials"]["running"], status["is_running"]) == (n_running, False)
    assert folder.call("trials", "large", "--csv", "trials.csv").code == 0
    assert (pd.read_csv(folder.path / "trials.csv")["state"] == "running").sum() == n_running


def test_trials_are_shown_as_running_while_a_coordinator_runs(
    stopped: tuple[Folder, StudyView], coordinator: None
) -> None:
    folder, _ = stopped
    status = folder.call("status", "large")
    assert "running" in status.out
    assert "interrupted" not in status.out
    assert folder.call("status", "large", "--json").json()["is_running"] is True
    assert "interrupted" not in folder.call("trials", "large").out
