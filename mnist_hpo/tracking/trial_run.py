"""What a trial's run shows in MLflow: its name, its learning curves, and one metric per column to sort by."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities import Metric

from mnist_hpo.analysis.trial_figures import trial_figures
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord

_SHORT = {"width": "w", "depth": "d", "batch_size": "bs", "learning_rate": "lr"}


def run_name(number: int, parameters: ParameterSet) -> str:
    """Return a descriptive name for a list of runs: `#017 w256 d2 bs128 lr3.1e-03`."""
    described = [f"{short}{_brief(parameters[name])}" for name, short in _SHORT.items() if name in parameters]
    return " ".join([f"#{number:03d}", *described])


def curves(results: Iterable[EpochResult]) -> list[Metric]:
    """Return the metrics of epochs, with the epoch as the step."""
    return [
        metric
        for result in results
        for metric in metrics_at(
            result.finished_unix_s,
            result.epoch,
            train_loss=result.train_loss,
            valid_loss=result.valid_loss,
            valid_accuracy=result.valid_accuracy,
            epoch_s=result.total_s,
        )
    ]


def columns(study: Study, trial: TrialRecord) -> dict[str, float | None]:
    """Return the numbers to sort trials by; None for what the trial does not have."""
    figures = trial_figures(study, trial)
    return {
        "best_valid_loss": figures.best_valid_loss,
        "best_valid_accuracy": figures.best_valid_accuracy,
        "best_epoch": figures.best_epoch,
        "epochs": figures.n_epochs,
        "seconds": figures.seconds,
        "model_parameters": figures.n_parameters,
        "train_tflop": figures.train_flops / 1e12,
    }


def metrics_at(unix_s: float, step: int, /, **values: float | None) -> list[Metric]:
    """Return values of one moment as MLflow metrics, without those that are None."""
    return [Metric(name, value, milliseconds(unix_s), step) for name, value in values.items() if value is not None]


def milliseconds(unix_s: float) -> int:
    """Return a Unix time in milliseconds, as MLflow wants it."""
    return round(unix_s * 1000)


def _brief(value: ParameterValue) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
