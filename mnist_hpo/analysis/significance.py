"""Significance tests for the difference of two classifiers on the same test examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from mnist_hpo.analysis.champion_files import TestPredictions

SIGNIFICANCE = 0.05
"""Below this p-value, texts state that two champions differ."""


@dataclass(frozen=True)
class SeedTest:
    """McNemar's exact test of two models on the same test examples."""

    seed_index: int
    n_only_first: int
    """Test examples that only the first model classifies correctly."""
    n_only_second: int
    p_value: float


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two champions on the same test examples, with one model for each seed."""

    first: str
    second: str
    """The labels of the two champions."""
    seeds: tuple[SeedTest, ...]
    p_value: float
    """Combined over the seeds; valid under any dependence between the seeds' tests."""


def paired_test(
    first: str, ours: TestPredictions | None, second: str, theirs: TestPredictions | None
) -> PairedTest | None:
    """Compare two champions' predictions, seed by seed.

    Returns:
        The test; None if a champion has no predictions, the examples differ, or no seed is in both.

    """
    if ours is None or theirs is None or not np.array_equal(ours.labels, theirs.labels):
        return None
    seeds: list[SeedTest] = []
    for index in sorted(ours.by_seed.keys() & theirs.by_seed.keys()):
        first_right, second_right = ours.by_seed[index] == ours.labels, theirs.by_seed[index] == ours.labels
        n_only_first, n_only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
        seeds.append(SeedTest(index, n_only_first, n_only_second, mcnemar_p_value(n_only_first, n_only_second)))
    if not seeds:
        return None
    return PairedTest(first, second, tuple(seeds), combined_p_value([seed.p_value for seed in seeds]))


def mcnemar_p_value(n_only_first: int, n_only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Consider the examples that only one of the two classifiers gets right. Under the null hypothesis each classifier is
    equally likely to be the one, so the counts are binomial (McNemar, Psychometrika 12, 1947, pages 153-157).

    """
    n = n_only_first + n_only_second
    return 1.0 if n == 0 else float(binomtest(min(n_only_first, n_only_second), n, 0.5).pvalue)


def combined_p_value(p_values: Sequence[float]) -> float:
    """Combine the p-values of K dependent tests into one: K / k times the k-th smallest, k = ⌈K / 2⌉.

    The seeds' tests share their test examples, so they are not independent. Twice the median, or slightly less, is
    valid under any dependence (Rüger, Metrika 25, 1978, pages 171-178; Vovk and Wang, Biometrika 107, 2020, pages
    791-808).

    """
    k = math.ceil(len(p_values) / 2)
    return min(1.0, len(p_values) / k * sorted(p_values)[k - 1])
