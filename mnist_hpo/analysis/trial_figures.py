"""Figures of one trial: its results, its cost, and the size of its model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mnist_hpo.search.pareto import fronts
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import recorded_costs


@dataclass(frozen=True)
class TrialFigures:
    """The results and the cost of a trial so far, in any state."""

    best_valid_loss: float | None
    """The valid_loss of the kept epoch, by default the lowest; None before the end of the first epoch."""
    best_valid_accuracy: float | None
    """The valid_accuracy of the kept epoch, from 0 to 1; None before the end of the first epoch."""
    best_epoch: int | None
    """The kept epoch, see `TrialRecord.kept_epoch`; None before the end of the first epoch."""
    n_epochs: int
    """Epochs that have ended."""
    seconds: float
    """Worker seconds of all its epochs."""
    compile_s: float
    """Seconds of these spent compiling or loading compiled programs."""
    n_parameters: int
    """Number of trainable weights of the model."""
    train_flops: int
    """Model FLOPs of the training so far, without validation."""


def trial_figures(study: Study, trial: TrialRecord) -> TrialFigures:
    """Return the figures of a trial in any state."""
    results, costs = trial.epochs.values(), recorded_costs(study, trial)
    return TrialFigures(
        best_valid_loss=kept_loss(trial),
        best_valid_accuracy=kept_accuracy(trial),
        best_epoch=trial.kept_epoch,
        n_epochs=len(results),
        seconds=sum(result.total_s for result in results),
        compile_s=sum(result.compile_s for result in results),
        n_parameters=costs["n_parameters"],
        train_flops=costs["train_flops"] * len(results),
    )


def objective_value(trial: TrialRecord) -> float:
    """Return the first objective's value of a complete trial; by default its `kept_loss`.

    Raises:
        ValueError: the trial is not complete and has no value.

    """
    if trial.state != "complete" or trial.value is None:
        raise ValueError(f"trial {trial.number} is {trial.state} and has no value")
    return trial.value


def complete_trials(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that have an `objective_value`, in the given order."""
    return [trial for trial in trials if trial.state == "complete" and trial.value is not None]


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete trials by the first objective, the best first; ties by number."""
    return sorted(complete_trials(trials), key=lambda trial: (trial.minimized_values[0], trial.number))


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete trials that no other dominates, by the first objective; with one objective the best ones."""
    complete = ranked(trials)
    first = fronts([trial.minimized_values for trial in complete])[:1]
    return [complete[index] for front in first for index in front]


def measure(study: Study, trial: TrialRecord, metric: str) -> float | None:
    """Return a metric of `METRICS` for the model that a trial keeps; None before its first epoch has ended."""
    if trial.kept_epoch is None:
        return None
    found = {"valid_loss": kept_loss(trial), "valid_accuracy": kept_accuracy(trial)}
    return found[metric] if metric in found else float(recorded_costs(study, trial)[metric])


def kept_loss(trial: TrialRecord) -> float | None:
    """Return the valid_loss of the model that a trial keeps; None before its first epoch has ended."""
    return None if trial.kept_epoch is None else trial.valid_loss[trial.kept_epoch]


def kept_accuracy(trial: TrialRecord) -> float | None:
    """Return the valid_accuracy of the model that a trial keeps; None before its first epoch has ended."""
    return None if trial.kept_epoch is None else trial.epochs[trial.kept_epoch].valid_accuracy


def with_parameters(trials: Iterable[TrialRecord], *names: str) -> list[TrialRecord]:
    """Return the trials that have all of these hyperparameters; some trials lack conditional ones."""
    return [trial for trial in trials if all(name in trial.parameters for name in names)]
