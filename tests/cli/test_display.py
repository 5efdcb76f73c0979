"""The live display's content, and that it fits its terminal, even if the terminal is resized."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Folder
from rich.console import Console

from mnist_hpo.cli.display import LiveView
from mnist_hpo.spec.reader import parse_study
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage

CLEAR = "\x1b[2J"


@pytest.fixture(scope="module")
def study_and_trials(finished: Folder) -> tuple[Study, list[TrialRecord]]:
    record = StudyStorage.load(f"sqlite:///{finished.storage}", "small")
    return parse_study(record.study_file, Path("small.yaml")).study, record.trials()


def as_it_went(trials: list[TrialRecord]) -> Iterator[TrialRecord]:
    """Yield the trials' records epoch by epoch; the last two trials never end."""
    for trial in trials:
        for n_epochs in range(len(trial.epochs) + 1):
            epochs = {epoch: trial.epochs[epoch] for epoch in range(1, n_epochs + 1)}
            yield TrialRecord(trial.number, "running", trial.parameters, epochs)
        if trial.number < len(trials) - 2:
            yield trial


def picture_at(console: Console, study_and_trials: tuple[Study, list[TrialRecord]]) -> LiveView:
    study, trials = study_and_trials
    picture = LiveView(console)
    picture.begin(study, [], "study small")
    for trial in as_it_went(trials):
        picture.tally.update(trial)
    return picture


def drawn(console: Console, picture: LiveView) -> list[str]:
    with console.capture() as capture:
        console.print(picture.render())
    return capture.get().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_display_shows_the_study_and_fits_its_terminal(
    columns: int, study_and_trials: tuple[Study, list[TrialRecord]]
) -> None:
    console = Console(width=columns, file=io.StringIO(), force_terminal=True, color_system=None)
    lines = drawn(console, picture_at(console, study_and_trials))
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    _, trials = study_and_trials
    assert "6/8 trials" in text
    best = min((trial for trial in trials[:-2] if trial.state == "complete"), key=lambda trial: trial.value or 1)
    assert f"best #{best.number}: valid_loss {best.value:.4f}  ·  lowest valid_loss █" in text
    for trial in trials[-2:]:
        (row,) = [line for line in lines if line.startswith(f"#{trial.number} ")]
        losses = list(trial.valid_loss.values())
        assert f" {len(losses)}/3 " in row
        assert f"{losses[-1]:.4f}" in row
        assert sum(character in "▁▂▃▄▅▆▇█" for character in row) == len(losses)
        assert ("learning_rate" if columns > 60 else "l2=") in row


def test_best_so_far_is_the_lowest_of_all_epochs(study_and_trials: tuple[Study, list[TrialRecord]]) -> None:
    study, trials = study_and_trials
    console = Console(width=80, file=io.StringIO())
    curve = picture_at(console, study_and_trials).tally.best_so_far
    losses = [loss for trial in trials for loss in trial.valid_loss.values()]
    assert len(curve) == len(losses)
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == min(losses)
    # Epochs that were recorded before are taken in the study's own order.
    picture = LiveView(console)
    picture.begin(study, trials, "study small")
    assert len(picture.tally.best_so_far) == len(losses)
    assert picture.tally.best_so_far[-1] == min(losses)


def test_the_display_is_redrawn_after_the_terminal_is_resized(
    study_and_trials: tuple[Study, list[TrialRecord]],
) -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system=None)
    picture = picture_at(console, study_and_trials)
    assert CLEAR not in "".join(drawn(console, picture))
    console.width = 70
    lines = drawn(console, picture)
    assert CLEAR in "".join(lines)
    assert "study small" in "".join(lines)
    assert CLEAR not in "".join(drawn(console, picture))
