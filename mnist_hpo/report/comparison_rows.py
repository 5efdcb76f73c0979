"""A comparison as rows of text, for the terminal and for the page."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mnist_hpo.analysis.anytime import Spent
from mnist_hpo.analysis.comparison import Compared, Comparison
from mnist_hpo.analysis.significance import SIGNIFICANCE, PairedTest
from mnist_hpo.analysis.words import brief, mean_and_std, percent, seeds_in_words
from mnist_hpo.storage.records import named_counts

HYPERPARAMETERS = "hyperparameters"
"""The heading of the rows of hyperparameters."""

Group = tuple[str, list[tuple[str, list[str]]]]
"""A heading and its rows, each a name with one text per study or trial."""


def comparison_rows(comparison: Comparison) -> list[Group]:
    """Return all figures as text, in groups."""
    compared = comparison.compared

    def row(name: str, text: Callable[[Compared], str | None]) -> tuple[str, list[str]]:
        return name, [text(entry) or "–" for entry in compared]

    def reached(name: str, text: Callable[[Spent], str]) -> tuple[str, list[str]]:
        return row(name, lambda entry: text(entry.to_target) if entry.to_target else "not reached")

    search = [
        row("state", _state),
        row("sampler, pruner", lambda entry: f"{entry.sampler}, {entry.pruner}"),
        row("budget", lambda entry: f"{entry.budget.n_trials} trials of {entry.budget.max_epochs} epochs"),
        row("trials", _counts),
        row("epochs", lambda entry: f"{entry.n_epochs:,}"),
        row("worker seconds", lambda entry: f"{entry.worker_s:,.1f}"),
        row("of which compiling", lambda entry: f"{entry.compile_s:,.1f}"),
    ]
    best = [
        row("trial", lambda entry: None if entry.trial is None else f"#{entry.trial}"),
        row("valid loss", lambda entry: None if entry.valid_loss is None else f"{entry.valid_loss:.5f}"),
        row("valid accuracy", lambda entry: None if entry.valid_accuracy is None else percent(entry.valid_accuracy)),
        row("kept epoch", lambda entry: None if entry.best_epoch is None else str(entry.best_epoch)),
        row("test accuracy", _test_accuracy),
        row("seeds", lambda entry: entry.test and seeds_in_words(entry.test.n_seeds, entry.test.n_diverged)),
        row("model parameters", lambda entry: None if entry.n_parameters is None else f"{entry.n_parameters:,}"),
    ]
    cost = [
        reached("trials begun", lambda cost: f"{cost.n_trials:,}"),
        reached("epochs", lambda cost: f"{cost.n_epochs:,}"),
        reached("worker seconds", lambda cost: f"{cost.worker_s:,.1f}"),
    ]
    names = dict.fromkeys(itertools.chain(*(entry.params for entry in compared)))
    parameters = [row(name, lambda entry, name=name: brief(entry.params.get(name))) for name in names]
    are_studies = comparison.has_studies
    found = [("best trial" if are_studies else "trial", best)]
    if comparison.target_valid_loss is not None:
        found.append((f"to reach valid loss {comparison.target_valid_loss:.5f}", cost if are_studies else cost[1:]))
    return [
        *found,
        ("search" if are_studies else "training", search if are_studies else search[-3:]),
        (HYPERPARAMETERS, parameters),
    ]


def paired_test_sentence(test: PairedTest) -> str:
    """Describe a paired test in a sentence."""
    counts = ", ".join(f"{seed.n_only_first} : {seed.n_only_second}" for seed in test.seeds)
    verdict = "differ" if test.p_value < SIGNIFICANCE else "cannot be told apart"
    return (
        f"{test.first} and {test.second} {verdict} on test, p = {test.p_value:.2g} "
        f"(test examples that only one of them gets right, by seed: {counts})"
    )


def _state(entry: Compared) -> str:
    return "interrupted" if entry.state == "running" and not entry.is_running else entry.state


def _counts(entry: Compared) -> str:
    return ", ".join(named_counts(entry.n_trials, is_running=entry.is_running)) or "none"


def _test_accuracy(entry: Compared) -> str | None:
    test = entry.test
    return test and mean_and_std(test.test_accuracy_mean, test.test_accuracy_std, percent=True)
