"""A trial that kills its workers halts the run; the same command continues it, or the user gives the trial up."""

import json
import os
from pathlib import Path

import mlflow
import pytest
from command import ROOT, Folder, Outcome, make_folder

from mnist_hpo.data.prepared import PreparedDataset

FAULTS = ROOT / "mnist_hpo" / "testing" / "worker_faults"


@pytest.fixture(scope="module")
def halted(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Outcome]:
    """A run that halted after its first job killed three workers in epoch 1."""
    folder = make_folder(tmp_path_factory.getbasetemp(), "halted")
    deaths = folder.path / "deaths"
    deaths.mkdir()
    path = os.pathsep.join(filter(None, [str(FAULTS), os.environ.get("PYTHONPATH")]))
    faults = " ".join(["EpochDone:1"] * 3)
    environment = {"PYTHONPATH": path, "MNIST_HPO_DEATHS": str(deaths), "MNIST_HPO_DIE_BEFORE": faults}
    return folder, folder.call("run", "small.yaml", "--workers", "1", **environment)


@pytest.fixture(scope="module")
def lost(halted: tuple[Folder, Outcome]) -> str:
    """The number of the trial at which the run halted."""
    return halted[1].err.splitlines()[-1].split()[2]


@pytest.fixture(scope="module")
def given_up(halted: tuple[Folder, Outcome], lost: str, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The study, continued with that trial given up."""
    folder = make_folder(tmp_path_factory.getbasetemp(), "given-up")
    halted[0].copy_record(folder)
    folder.run("--give-up-trial", lost)
    return folder


def test_the_run_halts_and_says_what_to_do(halted: tuple[Folder, Outcome], lost: str) -> None:
    folder, outcome = halted
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    message = outcome.err.splitlines()[-1]
    reason = "3 workers died of it: killed by SIGKILL (the system does so when memory runs out)"
    assert message.startswith(f"error: trial {lost} cannot be trained on this machine: epoch 1: {reason}. ")
    assert "learning_rate=" in message
    assert f"--give-up-trial {lost}" in message
    status = folder.status()
    assert status["n_trials"]["failed"] == 0
    assert not status["machine_dependent"]


@pytest.mark.slow
def test_the_same_command_continues_the_study_to_the_same_history(
    halted: tuple[Folder, Outcome], finished: Folder, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    halted[0].copy_record(folder)
    assert folder.run().json()["history_sha256"] == finished.status()["history_sha256"]


def test_a_study_with_a_given_up_trial_says_so_everywhere(given_up: Folder, lost: str) -> None:
    status = given_up.status()
    assert status["state"] == "complete"
    assert status["machine_dependent"]
    assert "results depend on the machine: it could not train" in given_up.call("status", "small").out
    trial = given_up.trials()[int(lost)]
    reason = f"given up: asked for by --give-up-trial {lost}"
    assert (trial["state"], trial["reason"], trial["given_up"]) == ("failed", reason, True)
    sentence = f"The results depend on the machine, which could not train trial {lost} ({reason})."
    assert given_up.call("best", "small", "--json").json()["machine_dependent"]
    assert sentence in " ".join(given_up.call("best", "small").out.split())
    labels = [f"small:{status['best']['number']}", "small:0"]
    compared = given_up.call("compare", "--runs", *labels, "--json").json()
    assert [entry["machine_dependent"] for entry in compared["compared"]] == [True, True]
    assert {f"{label}: {sentence}" for label in labels} <= set(compared["notes"])
    assert given_up.call("report", "small", "-o", "page.html").code == 0
    assert sentence in (given_up.path / "page.html").read_text()
    client = mlflow.MlflowClient(given_up.tracking_uri)
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`mnist_hpo.kind` = 'study'")
    assert parent.data.tags["mnist_hpo.machine_dependent"] == "true"
    assert sentence in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_models_of_a_study_with_a_given_up_trial_record_it(given_up: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    given_up.copy_record(folder)
    number = folder.status()["best"]["number"]
    (best,) = (given_up.path / "mlruns" / "checkpoints").glob(f"*/best-{number:05d}/model.json")
    assert json.loads(best.read_bytes())["provenance"]["machine_dependent"]
    champion = folder.call("retrain", "small", "--seeds", "1", "--json").json()
    assert champion["machine_dependent"]
    assert json.loads((folder.path / champion["model"] / "model.json").read_bytes())["provenance"]["machine_dependent"]


def test_a_study_without_a_given_up_trial_is_not_machine_dependent(finished: Folder) -> None:
    assert not finished.status()["machine_dependent"]
    assert not any(trial["given_up"] for trial in finished.trials())
    assert "depend on the machine" not in finished.call("best", "small").out


def test_giving_up_a_trial_beyond_the_budget_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_study()
    outcome = folder.call("run", "small.yaml", "--give-up-trial", "8")
    assert outcome.code == 2
    assert outcome.err == "error: --give-up-trial 8: 'small' has no such trial; its trials are 0 to 7\n"
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
def test_giving_up_a_trial_again_changes_nothing(given_up: Folder, lost: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    given_up.copy_record(folder, "optuna.db", "mlflow.db")
    again = json.loads(folder.run("--give-up-trial", lost).out)
    assert again["history_sha256"] == given_up.status()["history_sha256"]
