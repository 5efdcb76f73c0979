"""Comparing two studies that really ran: every figure equals one computed independently from the storage."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from command import Folder, assert_refused, make_folder, retrained_small
from scipy.stats import binom

from mnist_hpo.analysis.charts.anytime import anytime_figure
from mnist_hpo.analysis.comparison import Entry, compare
from mnist_hpo.analysis.reading import load_entry
from mnist_hpo.analysis.significance import combined_p_value, mcnemar_p_value
from mnist_hpo.cli.schemas.compare import CompareOutput
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.learners.cost import describe
from mnist_hpo.report.compare_page import comparison_page
from mnist_hpo.spec.errors import UserError

OTHER = ["name: small", "name: other", "seed: 3", "seed: 4", "name: tpe, n_startup_trials: 3", "name: random"]


@pytest.fixture(scope="module")
def both(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with two finished studies whose best trials were re-trained."""
    retrained = retrained_small(tmp_path_factory.getbasetemp())
    folder = make_folder(tmp_path_factory.getbasetemp(), "both")
    retrained.copy_record(folder, "optuna.db", "mlflow.db")
    shutil.copytree(retrained.path / "mlruns" / "champions", folder.path / "mlruns" / "champions")
    folder.write_study(*OTHER, name="other.yaml")
    for arguments in (["run", "other.yaml"], ["retrain", "other", "--seeds", "2"]):
        outcome = folder.call(*arguments)
        assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="module")
def output(both: Folder) -> CompareOutput:
    return CompareOutput.model_validate(both.call("compare", "small", "other", "--json").json())


@pytest.fixture(scope="module")
def entries(both: Folder) -> list[Entry]:
    url = f"sqlite:///{both.storage}"
    return [load_entry(url, name, None, both.path / "mlruns" / "champions") for name in ("small", "other")]


def epochs_of(both: Folder, name: str) -> pd.DataFrame:
    """Return a study's epochs, read with Optuna's own API, in order of virtual time, with the cumulative cost."""
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{both.storage}").trials
    free, rows, begun = [(0, -1)] * 3, [], []
    for trial in trials:
        parameters = {"batch_size": 512, "depth": 1, **trial.params}
        cost = describe("mlp", parameters, dataset_info("mnist").shape("standard")).epoch_cost
        begin = min(free)
        free.remove(begin)
        begun.append(begin)
        n_epochs = len(trial.intermediate_values)
        rows += [
            {"at": (begin[0] + cost * epoch, trial.number), "trial": trial.number, "state": trial.state.name}
            | trial.user_attrs[f"epoch:{epoch}"]
            for epoch in range(1, n_epochs + 1)
        ]
        n_epochs += trial.state.name == "FAIL"
        free.append((begin[0] + cost * n_epochs, trial.number))
    frame = pd.DataFrame(rows).sort_values("at", ignore_index=True)
    frame["n_trials"] = [sum(begin < at for begin in begun) for at in frame["at"]]
    frame["n_epochs"] = frame.index + 1
    frame["worker_s"] = frame["total_s"].cumsum()
    frame["best_so_far"] = frame["valid_loss"].cummin()
    return frame


def test_figures_equal_those_in_the_storage(both: Folder, output: CompareOutput) -> None:
    assert [entry.label for entry in output.compared] == ["small", "other"]
    for entry in output.compared:
        epochs = epochs_of(both, entry.label)
        study = optuna.load_study(study_name=entry.label, storage=f"sqlite:///{both.storage}")
        states = study.trials_dataframe()["state"].value_counts().to_dict()
        counts = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
        assert entry.n_trials.model_dump() == {ours: states.get(theirs, 0) for ours, theirs in counts.items()} | {
            "paused": 0
        }
        assert (entry.budget.n_trials, entry.budget.max_epochs) == (8, 3)
        assert entry.n_epochs == len(epochs)
        assert entry.worker_s == pytest.approx(epochs["total_s"].sum(), abs=1e-3)
        assert entry.compile_s == pytest.approx(epochs["compile_s"].sum(), abs=1e-3)
        assert entry.valid_loss == study.best_value
        assert entry.trial == study.best_trial.number
        best = epochs[(epochs["trial"] == entry.trial) & (epochs["valid_loss"] == study.best_value)].iloc[0]
        assert (entry.valid_accuracy, entry.best_epoch) == (best["valid_accuracy"], best["epoch"])
        assert study.best_params.items() <= entry.params.items()
        assert entry.n_parameters == 785 * entry.params["width"] + 10 * (entry.params["width"] + 1)


def test_the_cost_to_reach_the_target_equals_that_in_the_storage(both: Folder, output: CompareOutput) -> None:
    assert output.target_valid_loss == max(entry.valid_loss or 0 for entry in output.compared)
    for entry in output.compared:
        epochs = epochs_of(both, entry.label)
        reached = epochs[epochs["best_so_far"] <= output.target_valid_loss].iloc[0]
        assert entry.to_target is not None
        assert (entry.to_target.n_trials, entry.to_target.n_epochs) == (reached["n_trials"], reached["n_epochs"])
        assert entry.to_target.worker_s == pytest.approx(reached["worker_s"], abs=1e-5)
        improvements = epochs[epochs["best_so_far"].diff().fillna(-1) < 0]
        assert [point.valid_loss for point in entry.anytime] == improvements["valid_loss"].tolist()
        assert [point.n_epochs for point in entry.anytime] == improvements["n_epochs"].tolist()
        assert [point.n_trials for point in entry.anytime] == improvements["n_trials"].tolist()


def test_test_figures_equal_those_of_the_champions(both: Folder, output: CompareOutput) -> None:
    for entry in output.compared:
        (path,) = (both.path / "mlruns" / "champions").glob(f"{entry.label}-*/trial-{entry.trial:05d}/report")
        champion = json.loads((path / "champion.json").read_text())
        assert entry.test is not None
        assert entry.test.accuracy_mean == pytest.approx(np.mean(champion["test_accuracy"]))
        assert entry.test.accuracy_std == pytest.approx(np.std(champion["test_accuracy"], ddof=1))
        assert (entry.test.n_seeds, entry.test.reproduced) == (2, "exact")


def test_champions_are_compared_on_each_test_digit(both: Folder, output: CompareOutput) -> None:
    (test,) = output.paired_tests
    kept = []
    for entry in output.compared:
        (path,) = (both.path / "mlruns" / "champions").glob(f"{entry.label}-*/trial-{entry.trial:05d}/report")
        kept.append(np.load(path / "predictions.npz"))
    for index, seed in enumerate(test.seeds):
        right = [predictions["guesses"][index] == predictions["labels"] for predictions in kept]
        table = pd.crosstab(right[0], right[1])
        assert (seed.n_only_first, seed.n_only_second) == (table.loc[True, False], table.loc[False, True])
        n, k = seed.n_only_first + seed.n_only_second, min(seed.n_only_first, seed.n_only_second)
        assert seed.p_value == pytest.approx(min(1.0, 2 * binom.cdf(k, n, 0.5)))
        accuracies = [np.mean(r) for r in right]
        assert accuracies[0] - accuracies[1] == pytest.approx((seed.n_only_first - seed.n_only_second) / 10_000)
    assert test.p_value == pytest.approx(min(1.0, 2 * min(seed.p_value for seed in test.seeds)))


def test_mcnemars_test_equals_a_calculation_by_hand() -> None:
    assert mcnemar_p_value(0, 0) == 1
    assert mcnemar_p_value(5, 5) == 1
    assert mcnemar_p_value(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar_p_value(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_p_values_over_seeds_equal_a_calculation_by_hand() -> None:
    assert combined_p_value([0.03]) == 0.03
    assert combined_p_value([0.01, 0.9]) == pytest.approx(0.02)
    assert combined_p_value([0.9, 0.01, 0.02]) == pytest.approx(0.03)
    assert combined_p_value([0.9, 0.8, 0.7]) == 1


def test_the_printed_table_has_the_same_figures(both: Folder, output: CompareOutput) -> None:
    shown = both.call("compare", "small", "other")
    assert shown.code == 0
    for entry in output.compared:
        assert f"{entry.valid_loss:.5f}" in shown.out
        assert entry.test is not None
        assert f"{100 * entry.test.accuracy_mean:.2f} ± {100 * entry.test.accuracy_std:.2f} %" in shown.out
    assert f"p = {output.paired_tests[0].p_value:.2g}" in shown.out
    assert "NOT COMPARABLE" not in shown.out


def test_output_files_have_the_same_figures(both: Folder, output: CompareOutput, tmp_path: Path) -> None:
    csv, page = tmp_path / "compared.csv", tmp_path / "compared.html"
    outcome = both.call("compare", "small", "other", "--csv", str(csv), "--html", str(page))
    assert outcome.code == 0
    table = pd.read_csv(csv).set_index("label")
    for entry in output.compared:
        row = table.loc[entry.label]
        assert row["valid_loss"] == entry.valid_loss
        assert (row["n_complete"], row["budget_n_trials"]) == (entry.n_trials.complete, 8)
        assert entry.test is not None
        assert entry.to_target is not None
        assert row["test_accuracy_mean"] == entry.test.accuracy_mean
        assert row["to_target_n_epochs"] == entry.to_target.n_epochs
        assert row["learning_rate"] == entry.params["learning_rate"]
    text = page.read_text()
    assert f"{output.compared[0].valid_loss:.5f}" in text
    assert "<th scope=row>trials begun</th>" in text
    assert "Not comparable" not in text


def test_a_given_target_that_only_one_study_reaches(both: Folder, entries: list[Entry]) -> None:
    losses = [entry.trial.value for entry in entries if entry.trial and entry.trial.value]
    assert len(losses) == 2
    between = sum(losses) / 2
    found = compare(entries, between)
    assert found.target_valid_loss == between
    assert sorted(entry.to_target is None for entry in found.compared) == [False, True]
    text = both.call("compare", "small", "other", "--target", str(between)).out
    assert "not reached" in text


def test_single_trials_can_be_compared(both: Folder) -> None:
    trials = optuna.load_study(study_name="small", storage=f"sqlite:///{both.storage}").trials
    pruned = next(trial for trial in trials if trial.state.name == "PRUNED")
    found = CompareOutput.model_validate(
        both.call("compare", "--runs", f"small:{pruned.number}", "other:0", "--json").json()
    )
    first, second = found.compared
    assert (first.label, first.state, first.trial) == (f"small:{pruned.number}", "pruned", pruned.number)
    assert first.valid_loss == min(pruned.intermediate_values.values())
    assert first.n_epochs == len(pruned.intermediate_values)
    assert first.params["width"] == pruned.params["width"]
    assert first.test is None
    assert any(f"retrain small --trial {pruned.number}" in note for note in found.notes)
    assert second.label == "other:0"
    assert first.to_target is not None
    assert first.to_target.n_trials == 1
    url, champions = f"sqlite:///{both.storage}", both.path / "mlruns" / "champions"
    entries = [load_entry(url, name, number, champions) for name, number in (("small", pruned.number), ("other", 0))]
    comparison = compare(entries)
    assert "trials begun" not in comparison_page(comparison)
    assert [axis.title.text for axis in anytime_figure(comparison).select_xaxes()] == ["epochs", "worker seconds"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"context": {"dataset_digest": "0123456789abcdef0123"}}, "dataset digest differs: .* has 0123456789abcdef"),
        ({"split": "paper"}, "split differs: small has standard, other has paper"),
        ({"dataset": "other"}, "dataset differs: small has mnist, other has other"),
    ],
)
def test_studies_that_cannot_be_compared_are_shown_with_the_reason(
    entries: list[Entry], change: dict[str, Any], why: str
) -> None:
    first, second = entries
    if "context" in change:
        second = dataclasses.replace(second, context={**second.context, **change["context"]})
    else:
        second = dataclasses.replace(second, study=second.study.model_copy(update=change))
    found = compare([first, second])
    assert not found.comparable
    assert len(found.why) == 1
    assert re.search(why, found.why[0])
    assert found.compared[1].valid_loss == compare(entries).compared[1].valid_loss
    page = comparison_page(found)
    assert "Not comparable" in page
    assert found.why[0].split(":")[0] in page


def test_the_command_says_that_two_splits_cannot_be_compared(both: Folder, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "splits")
    both.copy_record(folder)
    study = optuna.load_study(study_name="other", storage=f"sqlite:///{folder.storage}")
    study.set_user_attr("mnist_hpo:study_file", study.user_attrs["mnist_hpo:study_file"] + "split: paper\n")
    found = folder.call("compare", "small", "other", "--json").json()
    assert found["comparable"] is False
    assert found["why"] == ["split differs: small has standard, other has paper"]
    for_people = folder.call("compare", "small", "other")
    assert for_people.code == 0
    assert for_people.out.startswith("NOT COMPARABLE: split differs")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["small"], ["'small'", "name another"]),
        (["small", "small"], ["'small'", "twice"]),
        (["small", "othr"], ["'othr'", "did you mean 'other'?"]),
        (["--runs", "small", "other:1"], ["'small'", "STUDY:NUMBER"]),
        (["--runs", "small:99", "other:1"], ["small:99", "mnist-hpo trials small"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(both: Folder, arguments: list[str], fragments: list[str]) -> None:
    assert_refused(both.call("compare", *arguments), *fragments)


def test_a_damaged_champion_file_is_named(both: Folder, tmp_path: Path) -> None:
    (whole,) = (both.path / "mlruns" / "champions").glob("small-*/trial-*/report")
    report = tmp_path / whole.relative_to(both.path / "mlruns" / "champions")
    report.mkdir(parents=True)
    for name in ("champion.json", "predictions.npz"):
        (report / name).write_text("{")
        with pytest.raises(UserError, match=f"{name}: damaged"):
            load_entry(f"sqlite:///{both.storage}", "small", None, tmp_path)
        (report / name).unlink()


def test_a_study_without_any_epoch_can_be_compared(entries: list[Entry]) -> None:
    nothing = [dataclasses.replace(entry, trials=()) for entry in entries]
    found = compare(nothing)
    assert found.target_valid_loss is None
    assert [entry.valid_loss for entry in found.compared] == [None, None]
    assert "incomplete" in comparison_page(found)
    assert not math.isnan(found.compared[0].worker_s)
