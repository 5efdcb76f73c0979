"""A study run from Python has the command line's results, and the run does not change the caller's process."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from api_results import Runs
from command import ROOT, SMALL, Folder

import mnist_hpo
from mnist_hpo.spec.reader import read_study, to_study_file


def test_the_result_equals_the_command_lines(runs: Runs, finished: Folder) -> None:
    """The study was first passed as a `Study` with half the trials, and was stopped in the middle."""
    status = finished.status()
    assert runs.result.history_sha256 == status["history_sha256"]
    assert [trial.number for trial in runs.result.trials] == list(range(8))
    assert runs.result.best is not None
    assert (runs.result.best.number, runs.result.best.value) == (status["best"]["number"], status["best"]["value"])
    assert runs.result.missing_in_mlflow is None
    assert "best #" in repr(runs.result)


def test_the_command_line_finds_a_study_that_python_recorded(runs: Runs) -> None:
    status = Folder(runs.folder).status()
    assert (status["state"], status["history_sha256"]) == ("complete", runs.result.history_sha256)
    assert (runs.folder / "mlruns" / "mlflow.db").exists()


def test_the_progress_function_receives_trials_and_may_stop_the_run(runs: Runs) -> None:
    assert runs.reported[-1].has_ended
    assert not any(trial.has_ended for trial in runs.reported[:-1])
    assert runs.left_running == []


def test_a_run_does_not_change_the_callers_process(runs: Runs) -> None:
    assert runs.after == runs.before


def test_progress_is_printed_to_standard_error(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    again = mnist_hpo.run_study(runs.folder / "small.yaml", folder=runs.folder)
    assert again.history_sha256 == runs.result.history_sha256
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("small: 8 of 8 trials, ")
    assert runs.printed == ""


def test_trials_are_loaded_by_folder_or_by_url(runs: Runs) -> None:
    by_folder = mnist_hpo.load_trials("small", folder=runs.folder)
    by_url = mnist_hpo.load_trials("small", storage=f"sqlite:///{runs.folder}/mlruns/optuna.db")
    pd.testing.assert_frame_equal(by_folder, by_url)
    assert by_folder["number"].tolist() == list(range(8))


def test_a_folder_argument_takes_precedence_over_the_environment(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_STORAGE", f"sqlite:///{runs.folder}/mlruns/optuna.db")
    assert len(mnist_hpo.load_trials("small")) == 8
    with pytest.raises(mnist_hpo.UserError, match="elsewhere"):
        mnist_hpo.load_trials("small", folder=runs.folder / "elsewhere")
    monkeypatch.undo()


def test_importing_the_package_loads_no_large_library() -> None:
    code = (
        "import sys, mnist_hpo; dir(mnist_hpo); mnist_hpo.UserError; "
        "print(sorted({'jax', 'mlflow', 'optuna', 'pandas', 'numpy', 'rich', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_running_a_study_loads_neither_jax_nor_mlflow() -> None:
    code = "import sys, mnist_hpo; mnist_hpo.run_study; print(sorted({'jax', 'mlflow'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_survives_a_round_trip_through_yaml(file: Path) -> None:
    study = read_study(file).study
    written = to_study_file(study)
    assert written.study == study
    # Including the order of the hyperparameters.
    assert list(written.study.space) == list(study.space)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (("l2:", "l3:"), ["space.l3", "unknown hyperparameter"]),
        (("width: 32}", "width: 31}"), ["enqueue.0.width", "outside the search space"]),
    ],
)
def test_an_invalid_study_raises_an_exception_that_names_the_place(
    tmp_path: Path, change: tuple[str, str], fragments: list[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace(*change))
    for study in (path, str(path), read_study(path).study):
        with pytest.raises(mnist_hpo.UserError) as raised:
            mnist_hpo.run_study(study, folder=tmp_path, progress=False)
        assert all(fragment in str(raised.value) for fragment in fragments)
    assert not (tmp_path / "mlruns").exists()


def test_other_mistakes_raise_an_exception(runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mnist_hpo.UserError, match="no such study file"):
        mnist_hpo.run_study(tmp_path / "missing.yaml", folder=tmp_path)
    with pytest.raises(mnist_hpo.UserError, match="n_workers is 0"):
        mnist_hpo.run_study(runs.folder / "small.yaml", folder=tmp_path, n_workers=0)
    with pytest.raises(mnist_hpo.UserError, match=r"no study 'smal'.*did you mean 'small'"):
        mnist_hpo.load_trials("smal", folder=runs.folder)
    with pytest.raises(AttributeError, match="no attribute 'run'"):
        _ = mnist_hpo.run  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")
