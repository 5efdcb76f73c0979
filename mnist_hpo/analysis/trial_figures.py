"""One trial in figures: what it reached, what it took, and how large its model is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mnist_hpo.search.pareto import fronts
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import recorded_costs


@dataclass(frozen=True)
class TrialFigures:
    """A trial's results and cost so far, whatever became of it."""

    best_valid_loss: float | None
    """The lowest; None before the first epoch has ended, like the two that follow."""
    best_valid_accuracy: float | None
    """At the best epoch, from 0 to 1."""
    best_epoch: int | None
    """The epoch of the lowest valid_loss."""
    n_epochs: int
    """Epochs that have ended."""
    seconds: float
    """Worker seconds of all its epochs."""
    compile_s: float
    """Of these, in compiling or loading compiled programs."""
    n_parameters: int
    """Numbers that the model learns."""
    train_flops: int
    """Model FLOPs of the training so far, without validation."""


def trial_figures(study: Study, trial: TrialRecord) -> TrialFigures:
    """The figures of a trial in any state."""
    results, costs = trial.epochs.values(), recorded_costs(study, trial)
    return TrialFigures(
        best_valid_loss=lowest_loss(trial),
        best_valid_accuracy=best_accuracy(trial),
        best_epoch=trial.best_epoch,
        n_epochs=len(results),
        seconds=sum(result.total_s for result in results),
        compile_s=sum(result.compile_s for result in results),
        n_parameters=costs["n_parameters"],
        train_flops=costs["train_flops"] * len(results),
    )


def objective_value(trial: TrialRecord) -> float:
    """The study's first objective, of a complete trial; by default its lowest valid_loss.

    Raises:
        ValueError: the trial has no value: it is not complete.

    """
    if trial.state != "complete" or trial.value is None:
        raise ValueError(f"trial {trial.number} is {trial.state} and has no value")
    return trial.value


def complete_trials(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that have an `objective_value`, in the order given."""
    return [trial for trial in trials if trial.state == "complete" and trial.value is not None]


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials, the best by the first objective first; of equals, the lower number."""
    return sorted(complete_trials(trials), key=lambda trial: (trial.minimized_values[0], trial.number))


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that no other one dominates, by the first objective; with one objective the best ones."""
    complete = ranked(trials)
    first = fronts([trial.minimized_values for trial in complete])[:1]
    return [complete[index] for front in first for index in front]


def measure(study: Study, trial: TrialRecord, metric: str) -> float | None:
    """A metric that objectives can name, of the model after a trial's best epoch; None before its first epoch."""
    if trial.best_epoch is None:
        return None
    found = {"valid_loss": lowest_loss(trial), "valid_accuracy": best_accuracy(trial)}
    return found[metric] if metric in found else float(recorded_costs(study, trial)[metric])


def lowest_loss(trial: TrialRecord) -> float | None:
    """The lowest valid_loss that a trial reached, whatever became of it; None before its first epoch's end."""
    return None if trial.best_epoch is None else trial.valid_loss[trial.best_epoch]


def best_accuracy(trial: TrialRecord) -> float | None:
    """A trial's valid_accuracy at the epoch of its lowest valid_loss; None where there is none."""
    return None if trial.best_epoch is None else trial.epochs[trial.best_epoch].valid_accuracy


def with_parameters(trials: Iterable[TrialRecord], *names: str) -> list[TrialRecord]:
    """The trials that have all of these searched hyperparameters: a conditional one is absent from some."""
    return [trial for trial in trials if all(name in trial.parameters for name in names)]
