"""Whether two classifiers differ on the same test examples, or only by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from mnist_hpo.analysis.champion_files import TestGuesses

SIGNIFICANCE = 0.05
"""Below this p-value, words say that two champions differ."""


@dataclass(frozen=True)
class SeedTest:
    """McNemar's exact test of two models, on the same test examples."""

    seed_index: int
    n_only_first: int
    """Test examples that only the first one guesses right."""
    n_only_second: int
    p_value: float


@dataclass(frozen=True)
class PairedTest:
    """Two champions on the same test examples, one model a seed each."""

    first: str
    second: str
    """Labels."""
    seeds: tuple[SeedTest, ...]
    p_value: float
    """Over the seeds: valid however the seeds' tests depend on each other."""


def paired_test(first: str, ours: TestGuesses | None, second: str, theirs: TestGuesses | None) -> PairedTest | None:
    """Compare two champions' guesses, seed by seed.

    Returns:
        None where one has none, they are on other examples, or no seed is in both.

    """
    if ours is None or theirs is None or not np.array_equal(ours.labels, theirs.labels):
        return None
    seeds: list[SeedTest] = []
    for index in sorted(ours.by_seed.keys() & theirs.by_seed.keys()):
        right, also_right = ours.by_seed[index] == ours.labels, theirs.by_seed[index] == ours.labels
        n_only_first, n_only_second = int((right & ~also_right).sum()), int((also_right & ~right).sum())
        seeds.append(SeedTest(index, n_only_first, n_only_second, mcnemar_p_value(n_only_first, n_only_second)))
    if not seeds:
        return None
    return PairedTest(first, second, tuple(seeds), combined_p_value([seed.p_value for seed in seeds]))


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
