"""Compare studies or single trials: their costs, their results, and whether these are comparable."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from mnist_hpo.analysis.anytime import AnytimePoint, Spent, anytime_points, cost_to_reach
from mnist_hpo.analysis.champion_files import ChampionTest, TestPredictions
from mnist_hpo.analysis.significance import PairedTest, paired_test
from mnist_hpo.analysis.study_figures import count_ended, study_figures
from mnist_hpo.analysis.trial_figures import kept_loss, trial_figures
from mnist_hpo.spec.study import Budget, ParameterValue, Study, TrialState
from mnist_hpo.storage.records import TrialRecord, best_of, state_name
from mnist_hpo.trial_plan import all_parameters


@dataclass(frozen=True)
class Entry:
    """A study or a single trial to compare, with its recorded data."""

    label: str
    """The study's name, or STUDY:NUMBER."""
    study: Study
    trials: tuple[TrialRecord, ...]
    """All trials of the study, or the single trial."""
    is_study: bool
    context: Mapping[str, str]
    """The recorded provenance: what the results depend on besides the study file."""
    is_running: bool
    """Whether a coordinator runs the study now."""
    test: ChampionTest | None = None
    """The test figures of `trial`; None until it is re-trained."""
    predictions: TestPredictions | None = None
    machine_dependence: str | None = None
    """A sentence about the trials that were given up with --give-up-trial; None if there are none."""

    @property
    def trial(self) -> TrialRecord | None:
        """The study's best trial, or the single trial."""
        return best_of(self.trials) if self.is_study else self.trials[0]

    @cached_property
    def points(self) -> list[AnytimePoint]:
        """The improvements of the best valid_loss so far."""
        return anytime_points(self.study, self.trials)


@dataclass(frozen=True)
class Compared:
    """One side of a comparison: a study or a trial, with its results and its cost."""

    label: str
    """The study's name, or STUDY:NUMBER for a single trial."""
    study: str
    state: str
    """`complete` or `incomplete` for a study; a trial's state for a trial."""
    is_running: bool
    """Whether a coordinator runs the study now."""
    machine_dependent: bool
    """Whether a trial of the study was given up because the machine could not train it."""
    sampler: str
    pruner: str
    budget: Budget
    n_trials: Mapping[TrialState, int]
    n_epochs: int
    worker_s: float
    compile_s: float
    trial: int | None
    """The number of the best trial, or of the single trial; None if no trial is complete."""
    valid_loss: float | None
    """The valid_loss of that trial's model."""
    valid_accuracy: float | None
    """The accuracy at that epoch, from 0 to 1."""
    best_epoch: int | None
    params: Mapping[str, ParameterValue]
    """All hyperparameters of that trial: searched, fixed and default values."""
    n_parameters: int | None
    """Number of trainable weights of its model."""
    test: ChampionTest | None
    """The test figures of that trial; None until it is re-trained."""
    to_target: Spent | None
    """The cost to reach the target; None if it was not reached."""
    anytime: Sequence[AnytimePoint]
    """Every improvement of the best valid_loss so far, over all epochs of all trials."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of studies or single trials."""

    comparable: bool
    """Whether their losses are comparable: same dataset digest, split and objective."""
    why: Sequence[str]
    """The reasons why they are not comparable; empty if they are."""
    notes: Sequence[str]
    """Other remarks for the reader."""
    target_valid_loss: float | None
    """The loss that `to_target` refers to; None if no epoch was trained."""
    compared: Sequence[Compared]
    paired_tests: Sequence[PairedTest]
    """One test for each pair of champions with saved predictions on the same test examples."""

    @property
    def has_studies(self) -> bool:
        """Whether studies are compared; for single trials the number of trials started means nothing."""
        return any(entry.label == entry.study for entry in self.compared)


def compare(entries: Sequence[Entry], target: float | None = None) -> Comparison:
    """Compare studies or trials.

    Args:
        entries: at least two.
        target: report the cost to reach this valid_loss; by default the highest of the entries' best losses.

    """
    bests = [loss for entry in entries if entry.trial and (loss := kept_loss(entry.trial)) is not None]
    if target is None and bests:
        target = max(bests)
    why = _reasons_not_comparable(entries)
    pairs = itertools.combinations(entries, 2)
    tests = [paired_test(first.label, first.predictions, second.label, second.predictions) for first, second in pairs]
    return Comparison(
        comparable=not why,
        why=why,
        notes=_notes(entries),
        target_valid_loss=target,
        compared=[_compared(entry, target) for entry in entries],
        paired_tests=[test for test in tests if test is not None],
    )


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each study or trial, with hyperparameters as columns; absent values are missing."""
    rows: list[dict[str, Any]] = []
    for entry in comparison.compared:
        nested = {"budget", "n_trials", "params", "test", "to_target", "anytime"}
        row = {name: value for name, value in vars(entry).items() if name not in nested}
        row |= {"budget_n_trials": entry.budget.n_trials, "budget_max_epochs": entry.budget.max_epochs}
        row |= {f"n_{state}": n for state, n in entry.n_trials.items()}
        for name in ("test_accuracy_mean", "test_accuracy_std"):
            row[name] = entry.test and getattr(entry.test, name)
        row |= {f"test_{name}": entry.test and getattr(entry.test, name) for name in ("n_seeds", "n_diverged")}
        spent = [field.name for field in dataclasses.fields(Spent)]
        row |= {f"to_target_{name}": entry.to_target and getattr(entry.to_target, name) for name in spent}
        rows.append(row | dict(entry.params))
    return pd.DataFrame(
        {name: _typed_column([row.get(name) for row in rows]) for name in dict.fromkeys(itertools.chain(*rows))}
    )


def _compared(entry: Entry, target: float | None) -> Compared:
    figures = study_figures(entry.study, entry.trials)
    study, trial = entry.study, entry.trial
    of_trial = trial_figures(study, trial) if trial else None
    return Compared(
        label=entry.label,
        study=study.name,
        state=_state(entry, is_complete=figures.is_complete),
        is_running=entry.is_running,
        machine_dependent=entry.machine_dependence is not None,
        sampler=study.sampler.name,
        pruner=study.pruning,
        budget=study.budget,
        n_trials=figures.n_trials,
        n_epochs=figures.n_epochs,
        worker_s=round(figures.worker_s, 3),
        compile_s=round(figures.compile_s, 3),
        trial=trial and trial.number,
        valid_loss=of_trial and of_trial.best_valid_loss,
        valid_accuracy=of_trial and of_trial.best_valid_accuracy,
        best_epoch=of_trial and of_trial.best_epoch,
        params=all_parameters(study, trial.parameters) if trial else {},
        n_parameters=of_trial and of_trial.n_parameters,
        test=entry.test,
        to_target=None if target is None else cost_to_reach(entry.points, target),
        anytime=entry.points,
    )


def _state(entry: Entry, *, is_complete: bool) -> str:
    if not entry.is_study:
        return entry.trials[0].state
    return "complete" if is_complete else "incomplete"


def _reasons_not_comparable(entries: Sequence[Entry]) -> list[str]:
    """Return the reasons why the entries' losses cannot be compared."""
    required_equal: Mapping[str, Callable[[Entry], str]] = {
        # Two folders are the same dataset if their digests are equal.
        "dataset": lambda entry: entry.study.dataset if isinstance(entry.study.dataset, str) else "a folder",
        "dataset digest": lambda entry: entry.context.get("dataset_digest", "unknown")[:16],
        "split": lambda entry: entry.study.split,
        "objective": lambda entry: entry.study.objective,
    }
    return [reason for name, value_of in required_equal.items() if (reason := _difference(name, entries, value_of))]


def _difference(name: str, entries: Sequence[Entry], value_of: Callable[[Entry], str]) -> str | None:
    values = {entry.label: value_of(entry) for entry in entries}
    if len(set(values.values())) == 1:
        return None
    return f"{name} differs: " + ", ".join(f"{label} has {value}" for label, value in values.items())


def _notes(entries: Sequence[Entry]) -> list[str]:
    notes: list[str] = []
    for entry in entries:
        n_ended = count_ended(entry.trials)
        n_trials = entry.study.budget.n_trials if entry.is_study else 1
        if n_ended < n_trials:
            has = (
                f"{n_ended} of {n_trials} trials have ended"
                if entry.is_study
                else f"the trial is {state_name('running', is_running=entry.is_running)}"
            )
            notes.append(f"{entry.label} is not complete: {has}")
        if entry.machine_dependence:
            notes.append(f"{entry.label}: {entry.machine_dependence}")
        if entry.trial is not None and entry.test is None:
            which = "" if entry.is_study else f" --trial {entry.trial.number}"
            notes.append(f"{entry.label} has no test figures yet: mnist-hpo retrain {entry.study.name}{which}")
    cpus = _difference("CPU", entries, lambda entry: entry.context.get("cpu", "unknown"))
    return [*notes, f"{cpus}; seconds do not compare"] if cpus else notes


def _typed_column(values: Sequence[Any]) -> pd.Series:
    """Return a column with the narrowest dtype that fits: Int64, float64 or object."""
    kinds = {type(value) for value in values if value is not None}
    dtype = "Int64" if kinds == {int} else "float64" if kinds and kinds <= {int, float} else "object"
    return pd.Series(values, dtype=dtype)
