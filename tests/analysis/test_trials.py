"""The table of trials has the recorded figures with their types, and can be sorted, filtered and written to files."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from command import ROOT, Folder, assert_refused, finished_small

import mnist_hpo
from mnist_hpo.analysis.trials_query import choose
from mnist_hpo.analysis.trials_table import trials_frame
from mnist_hpo.cli.schemas.trial import TrialsOutput
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@pytest.fixture(scope="module")
def finished(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return finished_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def frame(finished: Folder) -> pd.DataFrame:
    return mnist_hpo.load_trials("small", storage=f"sqlite:///{finished.storage}")


@pytest.fixture(scope="module")
def by_optuna(finished: Folder) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="small", storage=f"sqlite:///{finished.storage}").trials


def test_the_table_equals_what_optuna_reads_from_the_storage(
    frame: pd.DataFrame, by_optuna: list[optuna.trial.FrozenTrial]
) -> None:
    assert frame["number"].tolist() == [trial.number for trial in by_optuna]
    for (_, row), trial in zip(frame.iterrows(), by_optuna, strict=True):
        assert row["state"] == {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        assert {name: row[name] for name in trial.params} == trial.params
        epochs = [trial.user_attrs[f"epoch:{epoch}"] for epoch in sorted(trial.intermediate_values)]
        assert row["n_epochs"] == len(epochs)
        assert row["seconds"] == pytest.approx(sum(epoch["total_s"] for epoch in epochs), abs=1e-5)
        assert row["compile_s"] == pytest.approx(sum(epoch["compile_s"] for epoch in epochs), abs=1e-5)
        if epochs:
            best = min(epochs, key=lambda epoch: epoch["valid_loss"])
            assert (row["valid_loss"], row["valid_accuracy"]) == (best["valid_loss"], best["valid_accuracy"])
            assert row["best_epoch"] == best["epoch"]
        else:
            assert row[["valid_loss", "valid_accuracy", "best_epoch"]].isna().all()
        # Optuna's dates are in local time, without a time zone.
        assert row["started_at"].to_pydatetime() == trial.datetime_start.astimezone()
        assert row["finished_at"].to_pydatetime() == trial.datetime_complete.astimezone()
        assert row["finished_at"].tzname() == "UTC"


def test_parameters_and_flops_equal_a_calculation_by_hand(frame: pd.DataFrame) -> None:
    width = frame["width"]
    assert (frame["n_parameters"] == (784 + 1) * width + (width + 1) * 10).all()
    # 97 steps of 512 examples: 4 FLOPs per weight of the first layer, which needs no input gradient, 6 of the second.
    assert (frame["train_flops"] == (4 * 784 * width + 6 * width * 10) * 97 * 512 * frame["n_epochs"]).all()


def test_columns_are_typed(frame: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "number": "Int64",
        "state": "category",
        "reason": "string",
        "learning_rate": "float64",
        "l2": "float64",
        "width": "Int64",
        "valid_loss": "float64",
        "valid_accuracy": "float64",
        "best_epoch": "Int64",
        "n_epochs": "Int64",
        "seconds": "float64",
        "compile_s": "float64",
        "n_parameters": "Int64",
        "train_flops": "Int64",
        "started_at": "datetime64[us, UTC]",
        "finished_at": "datetime64[us, UTC]",
    }
    assert list(frame["state"].cat.categories) == ["complete", "pruned", "failed", "running", "paused"]


def test_hyperparameters_of_every_type_and_a_trial_without_epochs_are_typed() -> None:
    study = Study.model_validate(
        {
            "name": "kinds",
            "budget": {"n_trials": 1, "max_epochs": 1},
            "space": {
                "depth": {"type": "int", "low": 1, "high": 3},
                "dropout": {"type": "categorical", "choices": [0, 0.5]},
                "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
            },
        }
    )
    record = TrialRecord(0, "running", {"depth": 2, "dropout": 0, "optimizer": "adam"}, started_unix_s=1.5e9)
    frame = trials_frame(study, [record])
    kinds = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert (kinds["depth"], kinds["dropout"], kinds["optimizer"]) == ("Int64", "float64", "category")
    assert list(frame["optimizer"].cat.categories) == ["sgd", "adam"]
    assert frame.loc[0, "started_at"] == pd.Timestamp("2017-07-14T02:40:00Z")
    assert frame.loc[0, ["valid_loss", "best_epoch", "finished_at"]].isna().all()
    assert trials_frame(study, []).dtypes.equals(frame.dtypes)


def test_missing_values_are_sorted_last(frame: pd.DataFrame) -> None:
    for descending in (False, True):
        losses = choose(frame, sort="valid_loss", descending=descending)["valid_loss"]
        assert losses.isna().any()
        assert losses.tail(losses.isna().sum()).isna().all()
        assert losses.dropna().is_monotonic_decreasing if descending else losses.dropna().is_monotonic_increasing


def test_the_top_trials_are_by_default_those_of_the_lowest_valid_loss(frame: pd.DataFrame) -> None:
    assert choose(frame, top=3)["valid_loss"].tolist() == sorted(frame["valid_loss"].dropna())[:3]
    assert choose(frame, sort="number", top=3)["number"].tolist() == [0, 1, 2]
    assert choose(frame, descending=True)["number"].tolist() == list(range(7, -1, -1))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("learning_rate<0.05", lambda t: t["learning_rate"] < 0.05),
        ("learning_rate <= 0.05", lambda t: t["learning_rate"] <= 0.05),
        ("width=16", lambda t: t["width"] == 16),
        ("width != 16", lambda t: t["width"] != 16),
        ("valid_loss>0", lambda t: t["n_epochs"] > 0),
        ("valid_loss!=0", lambda t: t["n_epochs"] > 0),
        ("state==complete", lambda t: t["state"] == "complete"),
        ("state!=complete", lambda t: t["state"] != "complete"),
        ("reason=diverged at epoch 1", lambda t: t["reason"].fillna("") == "diverged at epoch 1"),
        ("started_at>=2020-01-01", lambda t: t["number"] >= 0),
        ("started_at<2020-01-01", lambda t: t["number"] < 0),
    ],
)
def test_a_condition_selects_the_matching_rows(frame: pd.DataFrame, condition: str, expected: Any) -> None:
    kept = choose(frame, where=[condition])
    assert 0 < len(kept) < len(frame) or condition.startswith("started_at")
    assert kept["number"].tolist() == frame.loc[expected(frame), "number"].tolist()
    assert kept.dtypes.equals(frame.dtypes)


def test_all_conditions_must_hold(frame: pd.DataFrame) -> None:
    kept = choose(frame, where=["width=32", "learning_rate<0.1"], states=["complete", "pruned"])
    assert len(kept) > 0
    assert (kept["width"] == 32).all()
    assert (kept["learning_rate"] < 0.1).all()
    assert set(kept["state"]) <= {"complete", "pruned"}


@pytest.mark.parametrize(
    ("asked", "fragments"),
    [
        ({"where": ["learning_rat<0.1"]}, ["'learning_rat<0.1'", "did you mean 'learning_rate'?", "valid_accuracy"]),
        ({"where": ["learning_rate"]}, ["'learning_rate'", "COLUMN<VALUE"]),
        ({"where": ["width<wide"]}, ["'width<wide'", "a number", "'wide'"]),
        ({"where": ["state<complete"]}, ["state has no order", "="]),
        ({"where": ["state=complet"]}, ["'complet'", "did you mean 'complete'?", "running"]),
        ({"where": ["started_at>noon-ish"]}, ["a time such as", "'noon-ish'"]),
        ({"sort": "valid_los"}, ["--sort 'valid_los'", "did you mean 'valid_loss'?"]),
    ],
    ids=str,
)
def test_a_mistake_is_reported_with_the_alternatives(
    frame: pd.DataFrame, asked: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        choose(frame, **asked)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_output_files_hold_the_same_table(finished: Folder, frame: pd.DataFrame, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "trials.csv", tmp_path / "trials.parquet"
    options = ["--where", "width=32", "--sort", "l2", "--descending"]
    outcome = finished.call("trials", "small", *options, "--csv", str(csv), "--parquet", str(parquet), "--json")
    expected = choose(frame, where=["width=32"], sort="l2", descending=True).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), expected)
    times = {name: pd.to_datetime(expected[name]) for name in ("started_at", "finished_at")}
    as_text = pd.read_csv(csv, dtype=expected.dtypes.drop(list(times)).to_dict(), parse_dates=list(times))
    pd.testing.assert_frame_equal(as_text.astype(expected.dtypes.to_dict()), expected)
    # The JSON output as well.
    printed = TrialsOutput.model_validate_json(outcome.out).root
    assert [trial.number for trial in printed] == expected["number"].tolist()
    assert [trial.best_valid_loss for trial in printed] == [
        None if loss != loss else loss for loss in expected["valid_loss"]
    ]
    assert all(str(path) in outcome.err for path in (csv, parquet))


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--state", "complet"], ["--state 'complet': no such state", "did you mean 'complete'?"]),
        (["--where", "lernrate<1"], ["no column 'lernrate'", "did you mean"]),
        (["--csv", "nowhere/trials.csv"], ["nowhere/trials.csv", "there is no folder nowhere"]),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_refused(finished: Folder, options: list[str], fragments: list[str]) -> None:
    assert_refused(finished.call("trials", "small", *options), *fragments)


def test_the_command_says_if_no_trial_matches(finished: Folder) -> None:
    nothing = finished.call("trials", "small", "--where", "width>9999")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no trial matches\n")
    as_json = finished.call("trials", "small", "--where", "width>9999", "--json")
    assert (as_json.json(), as_json.err) == ([], "no trial matches\n")


def test_headings_and_help_list_the_columns(finished: Folder, frame: pd.DataFrame) -> None:
    header = finished.call("trials", "small").out.splitlines()[0]
    shown = [heading.strip().replace(" ", "_") for heading in re.split(r" {2,}", header.strip())]
    assert {"number", "n_epochs", "n_parameters"} <= set(shown) <= set(frame.columns)
    (columns,) = re.findall(r"Columns: (.*?)\.", " ".join(finished.call("trials", "--help").out.split()))
    parameters = list(frame.columns[3:6])
    assert columns.replace("each searched hyperparameter", ", ".join(parameters)).split(", ") == list(frame.columns)


def test_numbers_are_not_truncated_on_a_narrow_terminal(finished: Folder, frame: pd.DataFrame) -> None:
    for columns in (80, 200):
        lines = finished.call_on_terminal(columns, "trials", "small").splitlines()
        assert max(map(len, lines)) <= columns
        text = "\n".join(lines)
        assert "…" not in text
        for loss in frame["valid_loss"].dropna():
            assert f"{loss:.5f}" in text


def test_importing_the_package_loads_neither_pandas_nor_optuna() -> None:
    program = "import sys, mnist_hpo; print(sorted({'pandas', 'optuna', 'jax', 'pydantic'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_the_environment_sets_the_storage(
    finished: Folder, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_HPO_STORAGE", f"sqlite:///{finished.storage}")
    pd.testing.assert_frame_equal(mnist_hpo.load_trials("small"), frame)


def test_the_example_script_runs_on_a_real_study(finished: Folder, frame: pd.DataFrame) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "explore.py", "small"],
        cwd=finished.path,
        env=finished.environment(MPLBACKEND="agg"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"{frame['valid_loss'].min():.6g}"[:6] in done.stdout
    assert "learning_rate" in done.stdout
