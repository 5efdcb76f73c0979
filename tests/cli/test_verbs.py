"""What the verbs print for users and for scripts."""

import json
import subprocess
from importlib.metadata import version
from typing import Any

import pytest
from command import PROGRAM, Folder, assert_refused

VERBS = ["data", "run", "status", "trials", "best", "retrain", "report", "augment", "sync", "ui"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(folder: Folder, verb: str) -> None:
    help_text = folder.call(verb, "--help").out
    assert f"Example: mnist-hpo {verb}" in help_text


def test_help_lists_the_verbs(folder: Folder) -> None:
    overview = folder.call()
    assert "Example: mnist-hpo run" in overview.out
    for verb in VERBS:
        assert f" {verb} " in overview.out
    assert overview.err == ""


def test_the_version_is_printed(folder: Folder) -> None:
    outcome = folder.call("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"mnist-hpo {version('mnist-hpo')}\n", "")


def test_status_as_json_agrees_with_the_trials(status: dict[str, Any], trials: list[dict[str, Any]]) -> None:
    assert status["study"] == "small"
    assert status["state"] == "complete"
    assert set(status["n_trials"]) == {"complete", "pruned", "failed", "running", "paused"}
    for state, n in status["n_trials"].items():
        assert n == sum(trial["state"] == state for trial in trials)
    assert sum(status["n_trials"].values()) == 8
    assert len(bytes.fromhex(status["history_sha256"])) == 32
    best = min((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["value"])
    assert status["best"] == {key: best[key] for key in ("number", "value", "params")} | {"metric": "valid_loss"}


def test_run_prints_the_status_at_its_end(finished: Folder, status: dict[str, Any]) -> None:
    printed = json.loads((finished.path / "run.json").read_text())
    assert printed.pop("seconds") > 0
    assert printed == status


def test_trials_are_a_json_list_with_every_final_state(trials: list[dict[str, Any]]) -> None:
    assert [trial["number"] for trial in trials] == list(range(8))
    for trial in trials:
        assert set(trial) >= {"number", "state", "params", "value", "valid_loss", "reason"}
        assert set(trial["params"]) == {"learning_rate", "l2", "width"}
        epochs = [int(epoch) for epoch in trial["valid_loss"]]
        assert epochs == list(range(1, len(epochs) + 1))
        match trial["state"]:
            case "complete":
                assert len(epochs) == 3
                assert trial["value"] == min(trial["valid_loss"].values())
                assert trial["reason"] is None
            case "pruned":
                assert 1 <= len(epochs) < 3
                assert (trial["value"], trial["reason"]) == (None, None)
            case "failed":
                assert trial["params"]["learning_rate"] == 1e6
                assert trial["value"] is None
                assert trial["reason"] == f"diverged at epoch {len(epochs) + 1}"
    assert {trial["state"] for trial in trials} == {"complete", "pruned", "failed"}


def test_enqueued_trials_come_first(trials: list[dict[str, Any]]) -> None:
    first, second, *_ = trials
    assert (first["params"]["learning_rate"], first["params"]["width"]) == (0.05, 32)
    assert (second["params"]["learning_rate"], second["params"]["width"]) == (1e6, 16)


def test_best_prints_the_best_trial_in_full(finished: Folder, status: dict[str, Any]) -> None:
    best = finished.call("best", "small", "--json").json()
    assert (best["number"], best["value"]) == (status["best"]["number"], status["best"]["value"])
    # All hyperparameters of the training: searched, fixed and by default.
    assert best["params"] | status["best"]["params"] == best["params"]
    assert best["params"] | {"optimizer": "sgd", "batch_size": 512, "depth": 1, "momentum": 0.9} == best["params"]
    assert best["valid_loss"][str(best["best_epoch"])] == best["value"]
    assert 0.5 < best["valid_accuracy"][str(best["best_epoch"])] <= 1


def test_tables_agree_with_the_json_output(finished: Folder, status: dict[str, Any]) -> None:
    best = status["best"]
    table = finished.call("status", "small").out
    assert status["history_sha256"] in table
    assert "complete: 8 of 8 trials ended" in table
    assert f"#{best['number']}, valid_loss {best['value']:.5f}" in table
    shown = finished.call("best", "small").out
    assert f"{best['value']:.5f}" in shown
    # The study sets three hyperparameters and searches three.
    n_all = len(finished.call("best", "small", "--json").json()["params"])
    assert all(name in shown for name in ("learning_rate", "l2", "width", "optimizer", "batch_size", "depth"))
    assert "elastic_sigma" not in shown
    assert f"each of the {n_all - 6} others" in shown
    rows = finished.call("trials", "small").out.splitlines()
    assert len(rows) == 1 + 8
    assert "failed (diverged at epoch 1)" in rows[2]


def test_a_study_can_be_named_by_its_file(finished: Folder, status: dict[str, Any]) -> None:
    assert finished.call("status", "small.yaml", "--json").json() == status


def test_the_storage_can_be_set_in_the_environment(finished: Folder, folder: Folder, status: dict[str, Any]) -> None:
    url = f"sqlite:///{finished.storage}"
    by_environment = folder.call("status", "small", "--json", MNIST_HPO_STORAGE=url).json()
    by_option = folder.call("status", "small", "--json", "--storage", url).json()
    assert by_environment == by_option
    assert by_option["history_sha256"] == status["history_sha256"]


@pytest.mark.parametrize("verb", ["status", "retrain", "report", "augment", "sync"])
def test_an_unknown_study_is_reported_with_the_nearest_name(finished: Folder, verb: str) -> None:
    assert_refused(finished.call(verb, "smal"), "'smal'", "did you mean 'small'?")


@pytest.mark.parametrize("verb", ["status", "retrain"])
def test_without_a_storage_verbs_are_refused(folder: Folder, verb: str) -> None:
    assert_refused(folder.call(verb, "small"), "no storage yet", "mnist-hpo run")
    assert folder.files() == []


def test_the_error_about_a_missing_trial_states_the_existing_numbers(finished: Folder) -> None:
    before = finished.files()
    assert_refused(finished.call("retrain", "small", "--trial", "8"), "no trial 8", "8 trials, counted from 0")
    assert finished.files() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "STUDY"),
        (["run", "small.yaml", "--wrokers", "2"], "--wrokers"),
        (["run", "small.yaml", "--workers", "0"], "--workers"),
        (["retrain", "small", "--seeds", "many"], "--seeds"),
        (["frobnicate"], "frobnicate"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(folder: Folder, arguments: list[str], message: str) -> None:
    assert_refused(folder.call(*arguments), message, "--help")
    assert folder.files() == []


@pytest.mark.parametrize(
    ("verb", "reader"),
    [
        ("trials small --json", "head -1"),
        ("trials small --json", "true"),
        ("status small", "true"),
        ("data", "head -1"),
    ],
)
def test_a_closed_pipe_causes_no_error_message(finished: Folder, verb: str, reader: str) -> None:
    command = f"{PROGRAM} {verb} | {reader}"
    done = subprocess.run(
        command, shell=True, cwd=finished.path, env=finished.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == (reader == "head -1")


def test_data_describes_the_prepared_dataset(folder: Folder) -> None:
    data = folder.call("data", "--json").json()
    assert data["dataset"] == "mnist"
    sizes = {name: (split["n_train"], split["n_valid"], split["n_test"]) for name, split in data["splits"].items()}
    assert sizes == {"standard": (50_000, 10_000, 10_000), "paper": (42_000, 14_000, 14_000)}
    table = folder.call("data").out
    assert data["digest"] in table
    assert "50,000" in table
