"""What the report's sections show for studies in every state."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from simulated_study import SPACE, run_simulated, study_of

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.charts.figure import Chart
from mnist_hpo.analysis.charts.trials import MAX_CURVES, drawn_trials
from mnist_hpo.analysis.importance import Importance, assess
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_accuracy
from mnist_hpo.report.blocks import Missing, Points, Section, Table, Tiles
from mnist_hpo.report.page import report_html
from mnist_hpo.report.sections import make_sections
from mnist_hpo.report.sections.why import why_it_won
from mnist_hpo.spec.study import Objective
from mnist_hpo.storage.records import TrialRecord

CHAMPION = {
    "trial": 0,
    "reproduced": "exact",
    "best_epoch": 5,
    "n_seeds": 3,
    "test_accuracy_mean": 0.985,
    "test_accuracy_std": 0.0002,
    "test_macro_f1_mean": 0.98,
    "test_macro_f1_std": 0.001,
    "test_log_loss_mean": 0.05,
    "test_log_loss_std": 0.002,
    "confusion_matrix": [[90, 10], [30, 70]],
}


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    return run_simulated(tmp_path_factory.mktemp("sections"), study_of())


def sections(view: StudyView, tests: Sequence[ChampionTest] = ()) -> dict[str, Section]:
    assert report_html(view, tests)  # The whole page can be rendered.
    return {section.title: section for section in make_sections(view, assess(view, lambda _step: None), tests)}


def charts(section: Section) -> list[Chart]:
    return [block for block in section.blocks if isinstance(block, Chart)]


def missing(section: Section) -> str:
    return " ".join(f"{block.reason} {block.command}" for block in section.blocks if isinstance(block, Missing))


def table(section: Section) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table))


def why(view: StudyView, tests: Sequence[ChampionTest] = ()) -> str:
    (points,) = (block for block in sections(view, tests)["Why it won"].blocks if isinstance(block, Points))
    return " ".join(points.sentences)


def points_of(chart: Chart, name: str) -> dict[int, Any]:
    trace = next(trace for trace in chart.data if trace["name"] == name)
    return dict(zip(trace["trials"], trace["y"], strict=True))


def test_a_finished_study_has_every_chart(view: StudyView) -> None:
    found = sections(view, [ChampionTest.model_validate(CHAMPION | {"trial": view.best and view.best.number})])
    counts = {title: len(charts(section)) for title, section in found.items()}
    assert counts == {
        "Why it won": 0,
        "Optimisation history": 1,
        "Hyperparameter importances": 1,
        "Rank correlations": 1,
        "Slices": 2,
        "Contour": 1,
        "Parallel coordinates": 1,
        "Learning curves": 1,
        "Top trials": 0,
        "Timeline": 2,
        "Where the time went": 0,
        "The champion's test": 1,
        "Provenance": 0,
    }
    assert not any(map(missing, found.values()))


def test_the_history_shows_every_trial_once_under_its_state(view: StudyView) -> None:
    (chart,) = charts(sections(view)["Optimisation history"])
    for state in ("complete", "pruned", "failed"):
        trials = [trial for trial in view.trials if trial.state == state]
        assert trials
        expected = {trial.number: pytest.approx(min(trial.valid_loss.values()), rel=1e-5) for trial in trials}
        assert points_of(chart, state) == expected
    best = min((t for t in view.trials if t.state == "complete"), key=lambda trial: trial.value or 0)
    assert points_of(chart, "best") == {best.number: best.value}


def test_the_summary_names_the_best_trial_and_explains_its_lead(view: StudyView) -> None:
    summary, text = sections(view)["Why it won"], why(view)
    first, second = view.complete[:2]
    assert f"Trial #{first.number} has the lowest valid_loss of {len(view.complete)} complete trials" in text
    assert f"{first.value:.5f} at epoch {first.kept_epoch}" in text
    assert f"The runner-up, #{second.number}," in text
    assert "learning_rate" in text
    assert "ρ" in text
    rows = {row[0]: row[1] for row in table(summary).rows}
    assert rows["learning_rate"] == f"{first.parameters['learning_rate']:.4g}"
    assert rows["momentum"] == "0.9"


def test_the_summary_names_a_trial_with_higher_accuracy(view: StudyView) -> None:
    first, second = view.complete[:2]
    assert first.kept_epoch is not None
    assert second.kept_epoch is not None
    assert "the higher valid_accuracy" not in why(view)
    accurate = dataclasses.replace(second.epochs[second.kept_epoch], valid_accuracy=0.9876)
    changed = dataclasses.replace(second, epochs={**second.epochs, second.kept_epoch: accurate})
    trials = tuple(changed if trial is second else trial for trial in view.trials)
    expected = (
        f"#{second.number} has the higher valid_accuracy, 98.76 % against "
        f"{100 * (first.epochs[first.kept_epoch].valid_accuracy or 0):.2f} %; the study's objective is valid_loss."
    )
    assert expected in why(dataclasses.replace(view, trials=trials))


def test_the_summary_names_the_objective_of_the_study(view: StudyView) -> None:
    def scored(trial: TrialRecord) -> TrialRecord:
        if trial.state != "complete":
            return trial
        return dataclasses.replace(trial, value=kept_accuracy(trial), signs=(-1,))

    study = view.study.model_copy(update={"objectives": (Objective(metric="valid_accuracy"),)})
    by_accuracy = dataclasses.replace(view, study=study, trials=tuple(map(scored, view.trials)))
    first, second = by_accuracy.complete[:2]
    text = why(by_accuracy)
    assert (first.value or 0) >= (second.value or 0)
    assert f"Trial #{first.number} has the highest valid_accuracy of " in text
    assert f"The runner-up, #{second.number}, is {(first.value or 0) - (second.value or 0):.5f} (" in text
    assert "valid_loss" not in text
    tiles = next(block for block in sections(by_accuracy)["Why it won"].blocks if isinstance(block, Tiles))
    assert tiles.figures[0][:2] == ("best valid_accuracy", f"{first.value:.5f}")


def test_the_summary_compares_the_lead_with_the_variation_over_seeds(view: StudyView) -> None:
    first, second = view.complete[:2]
    lead = (second.value or 0) - (first.value or 0)

    def summary(trial: int, deviation: float) -> str:
        return why(view, [ChampionTest.model_validate(CHAMPION | {"trial": trial, "test_log_loss_std": deviation})])

    small, large = lead / 2.5, lead * 1.1
    known = f"(± {small:.4f} in the log loss on test, over 3 seeds)"
    assert f"This lead is 2.5 times what another seed changes {known}." in summary(first.number, small)
    assert f"This lead is within what another seed changes (± {large:.4f} in" in summary(first.number, large)
    for text in (why(view), summary(second.number, small), summary(first.number, 0.0)):
        assert "another seed" not in text


def test_the_summary_says_where_the_importances_disagree(view: StudyView) -> None:
    fanova = {"learning_rate": 0.7, "dropout": 0.3}
    agreeing = Importance(fanova, {"learning_rate": 0.6, "dropout": 0.4}, {}, n_top=5)
    disagreeing = dataclasses.replace(agreeing, ped_anova={"learning_rate": 0.2, "dropout": 0.8})
    assert "disagree" not in " ".join(why_it_won(view, agreeing, []))
    assert "the best 5 trials apart, puts dropout first (80 %, and learning_rate 20 %)" in " ".join(
        why_it_won(view, disagreeing, [])
    )


@pytest.mark.parametrize(("n_complete", "n_top"), [(1, 1), (3, 2), (12, 5)])
def test_the_best_trial_is_shown_beside_the_top_group_of_ped_anova(
    view: StudyView, n_complete: int, n_top: int
) -> None:
    few = tuple(dataclasses.replace(trial, number=i) for i, trial in enumerate(view.complete[:n_complete]))
    shown = table(sections(dataclasses.replace(view, trials=few))["Why it won"])
    at = shown.header.index(f"best {n_top} trial" + "s" * (n_top > 1))
    dropout = [float(trial.parameters["dropout"]) for trial in few[:n_top]]
    expected = " to ".join(dict.fromkeys(f"{value:.4g}" for value in (min(dropout), max(dropout))))
    assert {row[0]: row[at] for row in shown.rows}["dropout"] == expected


def test_the_colour_bar_of_the_contour_has_distinct_labels(view: StudyView) -> None:
    (contour,) = charts(sections(view)["Contour"])
    bar = contour.data[0]["colorbar"]
    assert len(set(bar["ticktext"])) == len(bar["tickvals"]) == 5
    assert [float(text) for text in bar["ticktext"]] == pytest.approx([10**at for at in bar["tickvals"]], rel=1e-3)


def test_the_best_loss_is_formatted_the_same_everywhere(view: StudyView) -> None:
    assert view.best is not None
    best = f"{view.best.value:.5f}"
    found = sections(view)
    (history,), (parallel,) = charts(found["Optimisation history"]), charts(found["Parallel coordinates"])
    assert [trace["text"] for trace in history.data if trace["name"] == "best"] == [[f"#{view.best.number}: {best}"]]
    assert best in [label["text"] for label in parallel.layout["annotations"]]


def test_the_top_trials_are_the_best_ten_in_order(view: StudyView) -> None:
    shown = table(sections(view)["Top trials"])
    assert [row[0] for row in shown.rows] == [f"#{trial.number}" for trial in view.complete[:10]]
    assert shown.highlighted == 0
    at = shown.header.index("valid_accuracy")
    for row, trial in zip(shown.rows, view.complete, strict=False):
        lowest = min(trial.epochs.values(), key=lambda result: result.valid_loss or 0)
        assert row[at] == f"{100 * (lowest.valid_accuracy or 0):.2f} %"


def test_an_unfinished_study_shows_its_results_so_far(tmp_path: Path) -> None:
    view = run_simulated(tmp_path, study_of(), stop_after=15)
    assert any(trial.state == "running" and trial.epochs for trial in view.trials)
    found = sections(view)
    (chart,) = charts(found["Optimisation history"])
    assert points_of(chart, "running")
    assert "unfinished" in str(found["Why it won"].blocks[0])


def test_without_a_coordinator_a_running_trial_is_shown_as_interrupted(tmp_path: Path) -> None:
    view = dataclasses.replace(run_simulated(tmp_path, study_of(), stop_after=15), is_running=False)
    names = {
        trace["name"]
        for section in sections(view).values()
        for chart in charts(section)
        for trace in chart.data
        if "name" in trace
    }
    assert "interrupted" in names
    assert "running" not in names


@pytest.mark.parametrize(
    ("n_trials", "n_epochs"), [(4, 2), (9, 5), (40, 9), pytest.param(300, 27, marks=pytest.mark.slow)]
)
def test_axes_of_trials_and_epochs_have_integer_ticks(tmp_path: Path, n_trials: int, n_epochs: int) -> None:
    study = study_of(budget={"n_trials": n_trials, "max_epochs": n_epochs}, pruner={"name": "none"})
    found = sections(run_simulated(tmp_path, study))
    for title, length in (("Optimisation history", n_trials), ("Learning curves", n_epochs)):
        (chart,) = charts(found[title])
        step = chart.layout["xaxis"]["dtick"]
        assert isinstance(step, int)
        assert step >= 1
        assert min(length, 4) - 1 <= length / step <= 13


def test_every_section_of_a_study_without_trials_says_so(view: StudyView) -> None:
    found = sections(dataclasses.replace(view, trials=()))
    for title, section in found.items():
        assert not charts(section), title
        assert missing(section) or title == "Provenance", title
    assert "mnist-hpo run" in missing(found["Why it won"])


def test_trials_without_a_finished_epoch_are_explained(view: StudyView) -> None:
    begun = tuple(TrialRecord(t.number, "running", t.parameters) for t in view.trials[:4])
    failed = tuple(TrialRecord(t.number, "failed", t.parameters, reason="diverged at epoch 1") for t in view.trials[:4])
    for trials in (begun, failed):
        found = sections(dataclasses.replace(view, trials=trials))
        assert "No trial has finished an epoch" in missing(found["Optimisation history"])
        assert "No trial is complete" in missing(found["Why it won"])


def test_one_complete_trial_has_a_best_trial_but_no_importances(view: StudyView) -> None:
    one = next(trial for trial in view.trials if trial.state == "complete")
    found = sections(dataclasses.replace(view, trials=(dataclasses.replace(one, number=0),)))
    for title in ("Hyperparameter importances", "Rank correlations", "Contour"):
        assert "at least 4 complete trials, and 1 trial is complete" in missing(found[title]), title
    assert "no other to compare it with" in str(found["Why it won"].blocks[1])
    assert len(charts(found["Slices"])) == 2


def test_a_space_of_unordered_choices_has_no_rank_correlations(tmp_path: Path) -> None:
    space = {"optimizer": SPACE["optimizer"], "activation": {"type": "categorical", "choices": ["relu", "gelu"]}}
    study = study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 12, "max_epochs": 2})
    found = sections(run_simulated(tmp_path, study))
    assert "no order" in missing(found["Rank correlations"])
    (contour,) = charts(found["Contour"])
    assert contour.data[0]["type"] == "heatmap"
    assert len(charts(found["Slices"])) == 2


def test_a_single_hyperparameter_has_no_contour(tmp_path: Path) -> None:
    space = {"dropout": SPACE["dropout"], "width": {"type": "categorical", "choices": [128]}}
    study = study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 6, "max_epochs": 2})
    found = sections(run_simulated(tmp_path, study))
    assert len(charts(found["Slices"])) == 1
    assert "dropout is the only hyperparameter" in missing(found["Contour"])


def test_equal_losses_have_no_importances(view: StudyView) -> None:
    same = tuple(dataclasses.replace(trial, value=0.5) if trial.value else trial for trial in view.trials)
    found = sections(dataclasses.replace(view, trials=same))
    assert "the same valid_loss" in missing(found["Hyperparameter importances"])
    assert len(charts(found["Contour"])) == 1


def test_without_a_test_the_section_names_the_command(view: StudyView) -> None:
    assert "mnist-hpo retrain large" in missing(sections(view)["The champion's test"])


def test_a_test_of_a_trial_that_is_no_longer_the_best_is_marked(view: StudyView) -> None:
    other = ChampionTest.model_validate(CHAMPION | {"trial": view.complete[1].number})
    section = sections(view, [other])["The champion's test"]
    assert view.best is not None
    assert f"Trial #{view.best.number}, which is now the best, has not been tested" in missing(section)
    assert table(section).rows[0][1] == "98.50 ± 0.02 %"
    assert not charts(section)


def test_precision_and_recall_are_computed_from_the_confusion_matrix(view: StudyView) -> None:
    assert view.best is not None
    section = sections(view, [ChampionTest.model_validate(CHAMPION | {"trial": view.best.number})])[
        "The champion's test"
    ]
    by_class = section.blocks[-1]
    assert isinstance(by_class, Table)
    assert by_class.rows[0] == ["0", "100", "75.00 %", "90.00 %"]
    assert by_class.rows[1] == ["1", "100", "87.50 %", "70.00 %"]


def test_of_many_trials_the_best_and_an_even_selection_are_drawn(view: StudyView) -> None:
    many = tuple(dataclasses.replace(view.trials[i % len(view.trials)], number=i) for i in range(10 * len(view.trials)))
    large = dataclasses.replace(view, trials=many)
    drawn = drawn_trials(large)
    assert len(drawn) == MAX_CURVES
    assert {trial.number for trial in large.complete[:50]} <= drawn
    assert "300 are drawn" in sections(large)["Learning curves"].lead


def test_texts_of_a_study_are_escaped(view: StudyView) -> None:
    bad = "</script><script>alert(1)</script>"
    study = view.study.model_copy(update={"description": bad})
    reason = dataclasses.replace(view.trials[0], state="failed", value=None, reason=bad)
    hostile = dataclasses.replace(
        view, study=study, study_file=f"# {bad}", context={"cpu": bad}, trials=(reason, *view.trials[1:])
    )
    html = report_html(hostile, [])
    assert bad not in html
    assert "alert(1)" in html  # Escaped, not dropped.
    figures = html.split('id="figures">')[1].split("</script>")[0]
    assert "<" not in figures  # Otherwise a text could close the script element.
    assert json.loads(figures)["trials"][0].startswith("<b>trial #0</b>: failed (&lt;/script&gt;")
