"""Studies, or single trials, beside each other: what they cost, what they found, and whether that can be compared.

Figures come from the storage; test figures and guesses from the files that `mnist-hpo retrain` has written.
"""

from __future__ import annotations

import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.report.anytime import anytime_points, cost_to_reach
from mnist_hpo.report.champion_test import mean_and_std, seeds_in_words
from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.spec.outputs import (
    AnytimePoint,
    ChampionTest,
    ComparedOutput,
    CompareOutput,
    CostToTarget,
    PairedTest,
    SeedTest,
    StateCounts,
    TrialBudget,
)
from mnist_hpo.spec.reader import parse_study
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.lock import is_held
from mnist_hpo.storage.records import (
    TrialRecord,
    best_of,
    count_states,
    machine_dependence,
    named_counts,
    state_name,
)
from mnist_hpo.storage.study_storage import StudyStorage

HYPERPARAMETERS = "hyperparameters"
"""The heading of their section."""
SIGNIFICANCE = 0.05
"""Below this p-value, words say that two champions differ."""


@dataclass(frozen=True)
class Entry:
    """A study, or one of its trials, as it is compared."""

    label: str
    """The study's name, or STUDY:NUMBER."""
    study: Study
    trials: tuple[TrialRecord, ...]
    """All of the study's, or the one."""
    is_study: bool
    context: Mapping[str, str]
    """What the results depend on beside the study file, as it was recorded."""
    is_running: bool
    """Whether a coordinator runs the study now."""
    champions: Path
    """The folder of the study's re-trained trials."""
    machine_dependence: str | None = None
    """Which trials of the study were given up; None if none were."""

    @property
    def trial(self) -> TrialRecord | None:
        """The study's best trial, or the one."""
        return best_of(self.trials) if self.is_study else self.trials[0]

    @property
    def report(self) -> Path | None:
        """Where that trial's test figures lie once it is re-trained."""
        return None if self.trial is None else self.champions / f"trial-{self.trial.number:05d}" / "report"

    @cached_property
    def points(self) -> list[AnytimePoint]:
        """Its improvements."""
        return anytime_points(self.study, self.trials)


def load_entry(storage_url: str, name: str, number: int | None, champions: Path) -> Entry:
    """Read a study, or the trial of a number, from a storage.

    Args:
        storage_url: the storage's.
        name: the study's name.
        number: a trial's, or None for the whole study.
        champions: the folder under which `mnist-hpo retrain` writes.

    Raises:
        UserError: there is no such study or trial.

    """
    record = StudyStorage.load(storage_url, name)
    study = parse_study(record.study_file, Path(f"{name}.yaml")).study
    trials = record.trials()
    dependence = machine_dependence(trials)
    label = name
    if number is not None:
        label = f"{name}:{number}"
        trials = [trial for trial in trials if trial.number == number]
        if not trials:
            raise UserError(f"{label}: no trial {number} in the study {name!r}; see: mnist-hpo trials {name}")
    folder = champions / record.folder_name
    is_running = is_held(record.url, record.name)
    return Entry(label, study, tuple(trials), number is None, record.context, is_running, folder, dependence)


def compare(entries: Sequence[Entry], target: float | None = None) -> CompareOutput:
    """Compare studies or trials.

    Args:
        entries: at least two.
        target: the valid_loss whose cost is told; by default the worst of the entries' best, which all of them reach.

    Raises:
        UserError: a file of a champion is damaged.

    """
    bests = [
        entry.trial.valid_loss[entry.trial.best_epoch] for entry in entries if entry.trial and entry.trial.best_epoch
    ]
    if target is None and bests:
        target = max(bests)
    why = _why_not(entries)
    return CompareOutput(
        comparable=not why,
        why=why,
        notes=_notes(entries),
        target_valid_loss=target,
        compared=[_compared(entry, target) for entry in entries],
        paired_tests=[test for pair in itertools.combinations(entries, 2) if (test := _paired_test(*pair))],
    )


def comparison_frame(output: CompareOutput) -> pd.DataFrame:
    """One row for each study or trial, hyperparameters as columns; what is not there is missing."""
    rows: list[dict[str, Any]] = []
    for entry in output.compared:
        fields = entry.model_dump(exclude={"budget", "n_trials", "params", "test", "to_target", "anytime"})
        fields |= {f"budget_{name}": value for name, value in entry.budget.model_dump().items()}
        fields |= {f"n_{state}": n for state, n in entry.n_trials.model_dump().items()}
        test = entry.test.model_dump() if entry.test else {}
        fields |= {
            f"test_{name}": test.get(name) for name in ("accuracy_mean", "accuracy_std", "n_seeds", "n_diverged")
        }
        cost = entry.to_target.model_dump() if entry.to_target else {}
        fields |= {f"to_target_{name}": cost.get(name) for name in ("n_trials", "n_epochs", "worker_s")}
        rows.append(fields | entry.params)
    return pd.DataFrame(
        {name: _typed([row.get(name) for row in rows]) for name in dict.fromkeys(itertools.chain(*rows))}
    )


Section = tuple[str, list[tuple[str, list[str]]]]
"""A heading, and rows of a name with a text for each study or trial."""


def sections(output: CompareOutput) -> list[Section]:
    """The same for people: figures with their units, by what they tell."""
    compared = output.compared

    def row(name: str, text: Callable[[ComparedOutput], str | None]) -> tuple[str, list[str]]:
        return name, [text(entry) or "–" for entry in compared]

    def reached(name: str, text: Callable[[CostToTarget], str]) -> tuple[str, list[str]]:
        return row(name, lambda entry: text(entry.to_target) if entry.to_target else "not reached")

    search = [
        row("state", _state),
        row("sampler, pruner", lambda entry: f"{entry.sampler}, {entry.pruner}"),
        row("budget", lambda entry: f"{entry.budget.n_trials} trials of {entry.budget.max_epochs} epochs"),
        row("trials", _counts),
        row("epochs", lambda entry: f"{entry.n_epochs:,}"),
        row("worker seconds", lambda entry: f"{entry.worker_s:,.1f}"),
        row("of them compiling", lambda entry: f"{entry.compile_s:,.1f}"),
    ]
    best = [
        row("trial", lambda entry: None if entry.trial is None else f"#{entry.trial}"),
        row("valid loss", lambda entry: None if entry.valid_loss is None else f"{entry.valid_loss:.5f}"),
        row("valid accuracy", lambda entry: None if entry.valid_accuracy is None else _percent(entry.valid_accuracy)),
        row("best epoch", lambda entry: None if entry.best_epoch is None else str(entry.best_epoch)),
        row(
            "test accuracy",
            lambda entry: entry.test and mean_and_std(entry.test.accuracy_mean, entry.test.accuracy_std, percent=True),
        ),
        row("seeds", lambda entry: entry.test and seeds_in_words(entry.test.n_seeds, entry.test.n_diverged)),
        row("model parameters", lambda entry: None if entry.n_parameters is None else f"{entry.n_parameters:,}"),
    ]
    cost = [
        reached("trials begun", lambda cost: f"{cost.n_trials:,}"),
        reached("epochs", lambda cost: f"{cost.n_epochs:,}"),
        reached("worker seconds", lambda cost: f"{cost.worker_s:,.1f}"),
    ]
    names = dict.fromkeys(itertools.chain(*(entry.params for entry in compared)))
    parameters = [row(name, lambda entry, name=name: _brief(entry.params.get(name))) for name in names]
    are_studies = has_studies(compared)
    found = [("best trial" if are_studies else "trial", best)]
    if output.target_valid_loss is not None:
        found.append((f"to reach valid loss {output.target_valid_loss:.5f}", cost if are_studies else cost[1:]))
    return [
        *found,
        ("search" if are_studies else "training", search if are_studies else search[-3:]),
        (HYPERPARAMETERS, parameters),
    ]


def has_studies(compared: Sequence[ComparedOutput]) -> bool:
    """Whether these are studies: single trials have one trial begun, whatever they reached."""
    return any(entry.label == entry.study for entry in compared)


def paired_test_sentence(test: PairedTest) -> str:
    """A paired test in words."""
    counts = ", ".join(f"{seed.n_only_first} : {seed.n_only_second}" for seed in test.seeds)
    verdict = "differ" if test.p_value < SIGNIFICANCE else "cannot be told apart"
    return (
        f"{test.first} and {test.second} {verdict} on test, p = {test.p_value:.2g} "
        f"(test examples that only one of them gets right, by seed: {counts})"
    )


def mcnemar_p_value(n_only_first: int, n_only_second: int) -> float:
    """McNemar's test, exact: how likely so uneven a number of disagreements is where both are equally good.

    Of the examples that only one of two classifiers gets right, each is as likely to get any one right under the null
    hypothesis, so their number is binomial (McNemar, Psychometrika 12, 1947, pages 153-157). Two-sided.

    """
    n = n_only_first + n_only_second
    return 1.0 if n == 0 else float(binomtest(min(n_only_first, n_only_second), n, 0.5).pvalue)


def combined_p_value(p_values: Sequence[float]) -> float:
    """One p-value of K tests that may depend on each other in any way: K / k times the k-th smallest, k = ⌈K / 2⌉.

    The seeds' tests share their test examples, so they are not independent. Twice the median, or a little less, stays
    valid all the same (Rüger, Metrika 25, 1978, pages 171-178; Vovk and Wang, Biometrika 107, 2020, pages 791-808).

    """
    k = math.ceil(len(p_values) / 2)
    return min(1.0, len(p_values) / k * sorted(p_values)[k - 1])


def _why_not(entries: Sequence[Entry]) -> list[str]:
    """The reasons for which the entries' losses cannot be compared."""
    asked = {
        "dataset": lambda entry: entry.study.dataset,
        "dataset digest": lambda entry: entry.context.get("dataset_digest", "unknown")[:16],
        "split": lambda entry: entry.study.split,
        "objective": lambda entry: entry.study.objective,
    }
    return [reason for name, value_of in asked.items() if (reason := _difference(name, entries, value_of))]


def _difference(name: str, entries: Sequence[Entry], value_of: Any) -> str | None:
    values = {entry.label: str(value_of(entry)) for entry in entries}
    if len(set(values.values())) == 1:
        return None
    return f"{name} differs: " + ", ".join(f"{label} has {value}" for label, value in values.items())


def _notes(entries: Sequence[Entry]) -> list[str]:
    notes: list[str] = []
    for entry in entries:
        n_ended = sum(trial.state != "running" for trial in entry.trials)
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
        if entry.trial is not None and entry.report is not None and not (entry.report / "champion.json").exists():
            which = "" if entry.is_study else f" --trial {entry.trial.number}"
            notes.append(f"{entry.label} has no test figures yet: mnist-hpo retrain {entry.study.name}{which}")
    cpus = _difference("CPU", entries, lambda entry: entry.context.get("cpu", "unknown"))
    return [*notes, f"{cpus}; seconds do not compare"] if cpus else notes


def _compared(entry: Entry, target: float | None) -> ComparedOutput:
    results = [result for trial in entry.trials for result in trial.epochs.values()]
    counts = count_states(entry.trials)
    study, trial = entry.study, entry.trial
    state = trial.state if trial and not entry.is_study else "complete"
    if entry.is_study and len(entry.trials) - counts["running"] < study.budget.n_trials:
        state = "incomplete"
    best = trial.epochs[trial.best_epoch] if trial and trial.best_epoch else None
    parameters = complete(study.model, {**study.fixed, **trial.parameters}) if trial else {}
    return ComparedOutput(
        label=entry.label,
        study=study.name,
        state=state,
        is_running=entry.is_running,
        machine_dependent=entry.machine_dependence is not None,
        sampler=study.sampler.name,
        pruner=study.pruner.name,
        budget=TrialBudget(n_trials=study.budget.n_trials, max_epochs=study.budget.max_epochs),
        n_trials=StateCounts(**counts),
        n_epochs=len(results),
        worker_s=round(sum(result.total_s for result in results), 3),
        compile_s=round(sum(result.compile_s for result in results), 3),
        trial=trial and trial.number,
        valid_loss=best and best.valid_loss,
        valid_accuracy=best and best.valid_accuracy,
        best_epoch=trial and trial.best_epoch,
        params=parameters,
        n_parameters=_n_parameters(study, trial) if trial else None,
        test=_champion_test(entry),
        to_target=None if target is None else cost_to_reach(entry.points, target),
        anytime=entry.points,
    )


def _n_parameters(study: Study, trial: TrialRecord) -> int:
    data = DATASETS[study.dataset].shape(study.split)
    return describe(study.model, {**study.fixed, **trial.parameters}, data).n_parameters


def _champion_test(entry: Entry) -> ChampionTest | None:
    path = None if entry.report is None else entry.report / "champion.json"
    if path is None or not path.exists():
        return None
    try:
        figures = json.loads(path.read_text())
        return ChampionTest(
            trial=figures["trial"],
            n_seeds=figures["n_seeds"],
            n_diverged=figures.get("n_diverged", 0),
            accuracy_mean=figures["test_accuracy_mean"],
            accuracy_std=figures["test_accuracy_std"],
            reproduced=figures["reproduced"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, entry, error) from None


def _paired_test(first: Entry, second: Entry) -> PairedTest | None:
    """Compare two champions' guesses; None where there are none, not of the same seeds or on other examples."""
    ours, theirs = _predictions(first), _predictions(second)
    if ours is None or theirs is None or not np.array_equal(ours[1], theirs[1]):
        return None
    labels = ours[1]
    seeds: list[SeedTest] = []
    for index in sorted(ours[0].keys() & theirs[0].keys()):
        right, also_right = ours[0][index] == labels, theirs[0][index] == labels
        n_only_first, n_only_second = int((right & ~also_right).sum()), int((also_right & ~right).sum())
        p_value = mcnemar_p_value(n_only_first, n_only_second)
        seeds.append(
            SeedTest(seed_index=index, n_only_first=n_only_first, n_only_second=n_only_second, p_value=p_value)
        )
    if not seeds:
        return None
    p_value = combined_p_value([seed.p_value for seed in seeds])
    return PairedTest(first=first.label, second=second.label, seeds=seeds, p_value=p_value)


def _predictions(entry: Entry) -> tuple[dict[int, NDArray[np.uint8]], NDArray[np.uint8]] | None:
    """A champion's guesses u8[n_test] by seed, without seeds that diverged, and the labels u8[n_test]."""
    path = None if entry.report is None else entry.report / "predictions.npz"
    if path is None or not path.exists():
        return None
    try:
        with np.load(path) as kept:
            guesses, labels = kept["guesses"], kept["labels"]
            # Files of earlier versions have every seed.
            seeds = kept["seeds"].tolist() if "seeds" in kept else list(range(len(guesses)))
        if labels.ndim != 1 or guesses.shape[1:] != labels.shape or not len(guesses):
            raise ValueError(f"guesses of shape {guesses.shape}, labels of shape {labels.shape}")
        return dict(zip(seeds, guesses, strict=True)), labels
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, entry, error) from None


def _damaged(path: Path, entry: Entry, error: Exception) -> UserError:
    return UserError(f"{path}: damaged ({first_line(error)}); mnist-hpo retrain {entry.study.name} writes a new one")


def _typed(values: Sequence[Any]) -> pd.Series:
    """A column of whole numbers, of numbers, or of what there is."""
    kinds = {type(value) for value in values if value is not None}
    dtype = "Int64" if kinds == {int} else "float64" if kinds and kinds <= {int, float} else "object"
    return pd.Series(values, dtype=dtype)


def _state(entry: ComparedOutput) -> str:
    return "interrupted" if entry.state == "running" and not entry.is_running else entry.state


def _counts(entry: ComparedOutput) -> str:
    counts = entry.n_trials.by_state()
    return ", ".join(named_counts(counts, is_running=entry.is_running)) or "none"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _brief(value: ParameterValue | None) -> str | None:
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)
