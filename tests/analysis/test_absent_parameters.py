"""Trials without one of the searched hyperparameters are marked in tables and left out of figures."""

import csv
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from command import Folder
from scipy.stats import spearmanr

from mnist_hpo.analysis.charts.contour import contour
from mnist_hpo.analysis.charts.parallel import parallel_coordinates
from mnist_hpo.analysis.charts.slices import slice_of
from mnist_hpo.analysis.importance import assess
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trials_query import choose
from mnist_hpo.analysis.trials_table import trials_frame
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.report.blocks import Missing, Points, Section, Table
from mnist_hpo.report.page import report_html
from mnist_hpo.report.sections import make_sections
from mnist_hpo.search.space import distributions
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, TrialState
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.plots import write_plots
from mnist_hpo.tracking.summary import parent_note, trials_csv
from mnist_hpo.trial_plan import trial_costs

STUDY = Study.model_validate(
    {
        "name": "conditional",
        "budget": {"n_trials": 24, "max_epochs": 2},
        "slots": 2,
        "sampler": "random",
        "space": {
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
            "momentum": {"type": "float", "low": 0.0, "high": 0.98},
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            "width": {"type": "int", "low": 16, "high": 64},
        },
    }
)
N_COMPLETE = 20


def trial(number: int) -> TrialRecord:
    """Return a trial: odd numbers use sgd and have a momentum; a higher one is better, but adam is better still."""
    random = np.random.default_rng(number)
    parameters: dict[str, ParameterValue] = {
        "optimizer": "sgd" if number % 2 else "adam",
        "learning_rate": float(10 ** random.uniform(-4, -1)),
        "width": int(random.integers(16, 65)),
    }
    loss = 0.2 + 0.001 * number
    if number % 2:
        parameters["momentum"] = float(random.uniform(0, 0.98))
        loss = 0.5 - 0.2 * float(parameters["momentum"])
    states: dict[int, TrialState] = {20: "pruned", 21: "pruned", 22: "failed", 23: "running"}
    state = states.get(number, "complete")
    losses = [] if state == "failed" else [loss + 0.1, loss]
    epochs = {
        epoch: EpochResult(epoch, loss, loss, 1 - loss, 0.5, 0.1, 0.0, 0.75, 1000.0 + epoch, 0)
        for epoch, loss in enumerate(losses, start=1)
    }
    reason = "diverged at epoch 1" if state == "failed" else None
    value = loss if state == "complete" else None
    ended = None if state == "running" else 1010.0 + number
    return TrialRecord(number, state, parameters, epochs, value, reason, 1000.0, ended)


TRIALS = tuple(trial(number) for number in range(24))
WITH_MOMENTUM = [trial.number for trial in TRIALS if "momentum" in trial.parameters]
VIEW = StudyView(STUDY, "", {}, TRIALS)
BEST_HAS_IT = dataclasses.replace(VIEW, trials=(*TRIALS[:1], dataclasses.replace(TRIALS[1], value=0.01), *TRIALS[2:]))


def sections(view: StudyView) -> dict[str, Section]:
    assert report_html(view, [])  # The whole page can be rendered.
    return {section.title: section for section in make_sections(view, assess(view), [])}


def table(section: Section) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table))


def text(section: Section) -> str:
    sentences = [block.sentences for block in section.blocks if isinstance(block, Points)]
    return " ".join([section.lead, *(sentence for several in sentences for sentence in several)])


def shown_trials(data: list[dict[str, Any]]) -> set[int]:
    return {number for trace in data for number in trace.get("trials", []) if number is not None}


def test_importances_of_a_conditional_hyperparameter_use_the_trials_that_have_it() -> None:
    found = assess(VIEW)
    assert found.fanova.keys() == {"optimizer", "learning_rate", "width"}
    assert found.ped_anova.keys() == STUDY.space.keys()
    assert found.ped_anova["momentum"] == 0, "none of the best trials has it"
    assert "momentum" not in found.ranking()
    in_the_best = assess(BEST_HAS_IT)
    assert in_the_best.ped_anova["momentum"] > 0
    assert in_the_best.ranking().index("momentum") == 3, "ranked after those that fANOVA covers"
    having = [trial for trial in VIEW.complete if "momentum" in trial.parameters]
    expected = spearmanr([trial.parameters["momentum"] for trial in having], [trial.value for trial in having])
    assert found.correlations["momentum"].rho == pytest.approx(expected.statistic) == pytest.approx(-1)


def test_a_hyperparameter_of_very_few_trials_has_no_correlation() -> None:
    few = tuple(trial for trial in TRIALS if trial.number % 2 == 0 or trial.number < 6)
    assert "momentum" not in assess(dataclasses.replace(VIEW, trials=few)).correlations
    nobody = tuple(trial for trial in TRIALS if trial.number % 2 == 0)
    found = assess(dataclasses.replace(VIEW, trials=nobody))
    assert "momentum" not in {**found.fanova, **found.ped_anova, **found.correlations}


@pytest.mark.parametrize("view", [VIEW, BEST_HAS_IT], ids=["absent from the best", "in the best"])
def test_a_slice_shows_the_trials_that_have_the_hyperparameter(view: StudyView) -> None:
    with_losses = {number for number in WITH_MOMENTUM if TRIALS[number].epochs}
    assert shown_trials(slice_of(view, "momentum").data) == with_losses
    assert shown_trials(slice_of(view, "width").data) == {trial.number for trial in TRIALS if trial.epochs}
    for names in (("momentum", "width"), ("width", "momentum")):
        assert shown_trials(contour(view, *names).data) == with_losses


def test_a_contour_of_a_hyperparameter_of_too_few_trials_says_so() -> None:
    space = {name: STUDY.space[name] for name in ("momentum", "width")}
    few = tuple(
        dataclasses.replace(trial, number=i, parameters={k: v for k, v in trial.parameters.items() if k in space})
        for i, trial in enumerate(TRIALS[:6])
    )
    view = StudyView(STUDY.model_copy(update={"space": space}), "", {}, few)
    contours = sections(view)["Contour"].blocks
    reasons = [block.reason for block in contours if isinstance(block, Missing)]
    assert reasons == ["This needs at least 4 complete trials with momentum, and 3 trials with momentum are complete."]


def test_a_line_of_parallel_coordinates_has_a_gap_at_an_absent_value() -> None:
    names = ["learning_rate", "momentum", "width"]
    chart, n_drawn = parallel_coordinates(VIEW, names)
    assert n_drawn == sum(bool(trial.epochs) for trial in TRIALS)
    heights: dict[int, list[float | None]] = {}
    sizes: dict[int, list[float]] = {}
    for trace in chart.data:
        markers = trace["marker"]["size"] if trace["mode"] == "lines+markers" else [0] * len(trace["y"])
        points = zip(trace["trials"], trace["y"], markers, strict=True)
        for number, height, size in points:
            if number is not None:
                heights.setdefault(number, []).append(height)
                sizes.setdefault(number, []).append(size)
    for number, line in heights.items():
        assert [height is None for height in line] == [False, number not in WITH_MOMENTUM, False, False]
        # The point before the gap belongs to no line segment, so it is drawn as a dot.
        assert [size > 0 for size in sizes[number]] == [number not in WITH_MOMENTUM, False, False, False]


def test_the_reports_tables_show_absent_values_as_dashes() -> None:
    found = sections(VIEW)
    top = table(found["Top trials"])
    at = top.header.index("momentum")
    assert [row[at] == "–" for row in top.rows] == [trial.number not in WITH_MOMENTUM for trial in VIEW.complete[:10]]
    rows = {row[0]: row for row in table(found["Why it won"]).rows}
    assert rows["momentum"][1] == "–"
    assert rows["momentum"][3:5] == ["–", "–"], "none of the top trials has it, and fANOVA leaves it out"
    left_out = "fANOVA leaves out hyperparameters that some trials do not have: momentum."
    assert left_out in text(found["Hyperparameter importances"])
    assert "Only over the trials that have it: momentum." in text(found["Rank correlations"])
    assert "gap" in text(found["Parallel coordinates"])


def test_the_summary_says_that_a_value_is_absent() -> None:
    ped_anova_alone = dataclasses.replace(assess(VIEW), fanova={}, ped_anova={"momentum": 0.9, "width": 0.1})
    summary = make_sections(VIEW, ped_anova_alone, [])[0]
    assert "momentum: the best trial does not have it." in text(summary)
    with_it = make_sections(BEST_HAS_IT, ped_anova_alone, [])[0]
    assert "momentum: higher values went with a lower valid_loss" in text(with_it)


def test_a_study_without_absent_values_does_not_mention_them() -> None:
    all_have_it = tuple(
        dataclasses.replace(trial, parameters={"momentum": 0.5 + trial.number / 100, **trial.parameters})
        for trial in TRIALS
    )
    view = dataclasses.replace(VIEW, trials=all_have_it)
    assert view.conditional == []
    assert assess(view).fanova.keys() == STUDY.space.keys()
    for section in sections(view).values():
        assert not re.search("do not have|that have it|gap", text(section)), section.title


def test_the_table_of_trials_has_missing_values() -> None:
    frame = trials_frame(STUDY, TRIALS)
    assert frame.loc[frame["momentum"].notna(), "number"].tolist() == WITH_MOMENTUM
    assert frame["momentum"].dtype == "float64"
    assert choose(frame, where=["momentum>=0"])["number"].tolist() == WITH_MOMENTUM
    assert choose(frame, where=["momentum!=0.5"])["number"].tolist() == WITH_MOMENTUM
    assert choose(frame, sort="momentum")["number"].tolist()[len(WITH_MOMENTUM) :] == list(range(0, 24, 2))


def test_mlflow_gets_empty_cells_for_absent_values() -> None:
    rows = list(csv.DictReader(io.StringIO(trials_csv(STUDY, TRIALS))))
    assert [row["number"] for row in rows if row["momentum"]] == [str(number) for number in WITH_MOMENTUM]
    note = parent_note(STUDY, TRIALS, "complete")
    header = next(line for line in note.splitlines() if line.startswith("| trial"))
    at = header.split(" | ").index("momentum")
    assert {line.split(" | ")[at] for line in note.splitlines() if line.startswith("| #")} == {"–"}


@pytest.mark.parametrize("view", [VIEW, BEST_HAS_IT], ids=["absent from the best", "in the best"])
def test_mlflows_plots_are_drawn_with_absent_values(view: StudyView, tmp_path: Path) -> None:
    write_plots(view.study, view.trials, tmp_path)
    assert '"title":{"text":"momentum"}' in (tmp_path / "plots.html").read_text()
    assert (tmp_path / "plots.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a storage that holds the trials."""
    path = tmp_path_factory.mktemp("conditional")
    file = yaml.safe_dump(STUDY.model_dump(mode="json", exclude_none=True))
    url = f"sqlite:///{path}/mlruns/optuna.db"
    storage = StudyStorage.create(url, STUDY, study_file=file, context={"dataset_digest": "00"})
    by_name = distributions(STUDY.space)
    for trial in TRIALS:
        own = {name: distribution for name, distribution in by_name.items() if name in trial.parameters}
        storage.start_trial(trial.number, trial.parameters, own, trial_costs(STUDY, trial.parameters))
        for result in trial.epochs.values():
            storage.add_epoch(trial.number, result)
        if trial.state != "running":
            storage.finish_trial(trial.number, trial.state, trial.values, trial.reason)
    storage.close()
    return Folder(path)


@pytest.mark.slow
def test_the_commands_show_trials_with_absent_values(recorded: Folder) -> None:
    listed = recorded.call("trials", "conditional", "--csv", "trials.csv", "--json")
    with_it = [trial["number"] for trial in listed.json() if "momentum" in trial["params"]]
    assert with_it == WITH_MOMENTUM
    table = pd.read_csv(recorded.path / "trials.csv")
    assert table.loc[table["momentum"].notna(), "number"].tolist() == WITH_MOMENTUM
    lines = recorded.call("trials", "conditional").out.splitlines()
    at = re.split(r" {2,}", lines[0].strip()).index("momentum")
    cells = {int(row[0]): row[at] for row in (re.split(r" {2,}", line.strip()) for line in lines[1:])}
    assert [number for number, cell in cells.items() if cell != "–"] == WITH_MOMENTUM
    assert "momentum" not in recorded.call("status", "conditional", "--json").json()["best"]["params"]
    best = recorded.call("best", "conditional")
    assert (best.code, best.err) == (0, "")
    compared = recorded.call("compare", "--runs", "conditional:0", "conditional:1")
    assert compared.code == 0, compared.err
    assert recorded.call("report", "conditional").code == 0
