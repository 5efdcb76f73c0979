"""The command-line tests' study, run and re-trained from Python."""

import io
from contextlib import redirect_stderr, redirect_stdout

import optuna
import pytest
from api_results import Retrained, Runs, StopError, global_state, our_children, started_since
from command import SMALL, Folder

import mnist_hpo
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.records import TrialRecord


@pytest.fixture(scope="session")
def runs(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("api")
    path = folder / "small.yaml"
    path.write_text(SMALL)
    study = read_study(path).study
    half = study.model_copy(update={"budget": study.budget.model_copy(update={"n_trials": 4})})
    reported: list[TrialRecord] = []

    def stop_after_the_first_trial(trial: TrialRecord) -> None:
        reported.append(trial)
        if trial.has_ended:
            raise StopError

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    before, children, printed = global_state(), our_children(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        with pytest.raises(StopError):
            mnist_hpo.run_study(half, folder=folder, progress=stop_after_the_first_trial)
        left_running = started_since(children)
        result = mnist_hpo.run_study(path, folder=folder, n_workers=1, progress=False)
    after = global_state()
    optuna.logging.set_verbosity(verbosity)
    return Runs(folder, reported, left_running, result, printed.getvalue(), before, after)


@pytest.fixture(scope="session")
def retrained(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    folder = tmp_path_factory.mktemp("api-retrained")
    Folder(runs.folder).copy_record(Folder(folder), "optuna.db", "mlflow.db")
    before = global_state()
    figures = mnist_hpo.retrain("small", n_seeds=2, folder=folder, progress=False)
    return Retrained(folder, figures, before, global_state())
