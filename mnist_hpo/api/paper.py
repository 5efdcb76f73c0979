"""The comparison of the paper: a study for each method, its champion or ensemble, and one table of their tests.

Everything that has been recorded is used again, so an interrupted comparison continues where it was.

Mahender et al., "MNIST Handwritten Digit Classification Using Neural Network", IJRASET 12(V), 2024, compare an SVM, an
MLP and a CNN by accuracy and time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mnist_hpo
from mnist_hpo import runner
from mnist_hpo.analysis.champion_files import read_champion_test, trial_report
from mnist_hpo.api.ensembling import EnsembleRequest, ensemble_recorded
from mnist_hpo.api.retraining import RetrainDisplay, retrain_recorded
from mnist_hpo.api.studies import champion_folder, checked_study
from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.runner import Display, Home
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, best_of
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.trial_plan import recorded_costs

_N_TIMED, _N_REPEATS = 2000, 3


@dataclass(frozen=True)
class Row:
    """One method of the comparison."""

    method: str
    study: str
    """The study's file in studies/, without its suffix."""
    n_seeds: int
    top: int = 0
    """For an ensemble: the number of the study's best trials in it, averaged."""


FULL = (
    Row("mlp", "mlp_best", 10),
    Row("mlp", "paper", 10),
    Row("mlp_augmented", "mlp_best_augmented", 10),
    Row("cnn", "cnn_best", 5),
    Row("cnn_ensemble", "cnn_best", 5, top=3),
    Row("svm", "svm_full", 5),
    Row("svm", "svm_deskewed", 5),
    Row("knn", "knn", 5),
    Row("knn", "knn_deskewed", 5),
    Row("forest", "forest", 5),
    Row("logistic", "logistic", 5),
    Row("rnn", "rnn", 5),
    Row("transformer", "transformer", 5),
)
_METHODS = ("mlp", "mlp_augmented", "cnn", "svm", "knn", "forest", "logistic", "rnn", "transformer")
QUICK = (*(Row(method, f"quick/{method}", 2) for method in _METHODS), Row("cnn_ensemble", "quick/cnn", 2, top=2))


def compare_methods(
    rows: tuple[Row, ...],
    home: Home,
    *,
    search_display: Callable[[], AbstractContextManager[Display]],
    display: RetrainDisplay,
    executor: str,
    n_workers: int | None,
    on_row: Callable[[Row], None] = lambda _row: None,
) -> list[dict[str, Any]]:
    """Search, re-train and test each method.

    The process must have a worker's environment before JAX starts; see `retraining`.

    Args:
        rows: the methods.
        home: where studies, champions and ensembles are recorded.
        search_display: makes a context that shows the progress of a search.
        display: shows the progress of the trainings after them.
        executor: the name of the executor.
        n_workers: number of worker processes. It does not affect the results, except for times.
        on_row: called before each row.

    Returns:
        The rows that `mnist-hpo paper --json` prints.

    Raises:
        UserError: an error that the user can fix; nothing recorded is lost.

    """
    found: list[dict[str, Any]] = []
    for row in rows:
        on_row(row)
        file = checked_study(study_file(row.study))
        with search_display() as shown:
            runner.run_study(file, home, display=shown, executor=executor, n_workers=n_workers)
        record = StudyStorage.load(home.storage_url, file.study.name)
        tested = _Tested(record, file.study, home, display, executor, n_workers)
        figures = tested.ensemble(row) if row.top else tested.champion(row)
        found.append(_row(row, file.study, record.trials(), figures))
    return found


def study_file(name: str) -> Path:
    """Return the file of a study of this repository: in ./studies, or else beside the installed package.

    Raises:
        UserError: it is in neither.

    """
    folders = (Path("studies"), Path(mnist_hpo.__file__).parents[1] / "studies")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise UserError(f"studies/{name}.yaml is missing; run this command in a clone of the repository")


@dataclass(frozen=True)
class _Tested:
    """Tests the models of a finished study, unless that has been done."""

    record: StudyStorage
    study: Study
    home: Home
    display: RetrainDisplay
    executor: str
    n_workers: int | None

    def champion(self, row: Row) -> Mapping[str, Any]:
        """Return the figures of the best trial's test over at least the row's seeds."""
        best = best_of(self.record.trials())
        if best is None:
            raise UserError(f"no trial of {self.study.name} is complete; see mnist-hpo status {self.study.name}")
        report = trial_report(champion_folder(self.home.folder, self.record), best.number)
        before = read_champion_test(report)
        if before is None or before.n_seeds < row.n_seeds or not _figures(report / "champion.json"):
            return retrain_recorded(
                self.record,
                self.study,
                self.home,
                number=best.number,
                n_seeds=row.n_seeds,
                executor=self.executor,
                n_workers=self.n_workers,
                display=self.display,
            )
        return {**_figures(report / "champion.json"), "model": str(report.with_name("model"))}

    def ensemble(self, row: Row) -> Mapping[str, Any]:
        """Return the figures of the ensemble's test over at least the row's seeds."""
        name = f"{self.study.name}-average"
        folder = self.home.folder / "ensembles" / name
        figures = _figures(folder / "report" / "ensemble.json")
        members = {(member["study"], member["trial"]) for member in figures.get("members", ())}
        is_current = {study for study, _ in members} == {self.study.name} and len(members) == row.top
        if is_current and figures["n_seeds"] >= row.n_seeds:
            return {**figures, "model": str(folder / "model")}
        request = EnsembleRequest(name, "average", row.top, 1, row.n_seeds, self.executor, self.n_workers)
        return ensemble_recorded([(self.record, self.study)], self.home, request, self.display)


def _figures(path: Path) -> dict[str, Any]:
    """Return the figures of an earlier test; empty if there is none, or one without a time."""
    try:
        figures: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return figures if "train_s_mean" in figures else {}


def _row(row: Row, study: Study, trials: list[TrialRecord], figures: Mapping[str, Any]) -> dict[str, Any]:
    if figures["model"] is None:
        raise UserError(f"every seed of {study.name} has diverged; see mnist-hpo retrain {study.name}")
    numbers = {member["trial"] for member in figures["members"]} if row.top else {figures["trial"]}
    costs = [recorded_costs(study, trial) for trial in trials if trial.number in numbers]
    results = [result for trial in trials for result in trial.epochs.values()]
    return {
        "method": row.method,
        "split": study.split,
        "test_accuracy_mean": figures["test_accuracy_mean"],
        "test_accuracy_std": figures["test_accuracy_std"],
        "n_seeds": figures["n_seeds"] - figures.get("n_diverged", 0),
        "macro_precision": figures["test_macro_precision_mean"],
        "macro_recall": figures["test_macro_recall_mean"],
        "macro_f1": figures["test_macro_f1_mean"],
        "train_s": figures["train_s_mean"],
        "predict_us": _predict_us(study, Path(figures["model"])),
        "n_parameters": sum(cost["n_parameters"] for cost in costs),
        "n_trials": len(trials),
        "search_s": sum(result.total_s for result in results),
        "study": study.name,
        "study_file": f"studies/{row.study}.yaml",
    }


def _predict_us(study: Study, model: Path) -> float:
    """Return the microseconds to predict one image of a batch of 2,000: the fastest of three times."""
    bundle = load_bundle(model)
    directory = prepare(dataset_info(study.dataset)).directory
    images = load_search(directory, study.split).valid_images[:_N_TIMED]
    bundle.log_probabilities(images)  # Compiles.
    times_s: list[float] = []
    for _ in range(_N_REPEATS):
        start = time.perf_counter()
        bundle.log_probabilities(images)
        times_s.append(time.perf_counter() - start)
    return 1e6 * min(times_s) / len(images)
