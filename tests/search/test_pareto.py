"""Ranking by several objectives equals the definitions, and the pruner uses it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.search.pareto import Point, dominates, fronts, ranking
from mnist_hpo.search.pareto_pruner import ParetoPruner
from mnist_hpo.spec.study import Study

VALUE = st.one_of(st.integers(0, 4).map(float), st.floats(-1e300, 1e300), st.just(math.inf))
"""Few distinct values, so that points share some; losses of failed trials are infinite."""


def points_of(n_objectives: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
    return st.lists(st.tuples(*[VALUE] * n_objectives), max_size=12)


POINTS = st.integers(1, 4).flatmap(points_of)


def rank_of(index: int, points: list[tuple[float, ...]]) -> int:
    """Return the rank by definition: the length of the longest chain of dominating points that ends at this one."""
    better = [
        j
        for j, point in enumerate(points)
        if all(a <= b for a, b in zip(point, points[index], strict=True))
        and any(a < b for a, b in zip(point, points[index], strict=True))
    ]
    return 1 + max((rank_of(j, points) for j in better), default=-1)


@given(POINTS)
def test_fronts_are_the_non_dominated_ranks(points: list[tuple[float, ...]]) -> None:
    ranks = [rank_of(index, points) for index in range(len(points))]
    expected = [[i for i, rank in enumerate(ranks) if rank == k] for k in range(max(ranks, default=-1) + 1)]
    assert fronts(points) == expected


@given(POINTS)
def test_a_ranking_is_a_permutation_by_front(points: list[tuple[float, ...]]) -> None:
    order = ranking(points)
    assert sorted(order) == list(range(len(points)))
    ranks = [rank_of(index, points) for index in order]
    assert ranks == sorted(ranks)


@given(points_of(1))
def test_one_objective_is_ranked_by_its_value(points: list[tuple[float, ...]]) -> None:
    assert ranking(points) == sorted(range(len(points)), key=lambda index: points[index])


@given(st.lists(VALUE, min_size=2, max_size=2).map(tuple), POINTS)
def test_dominance_is_irreflexive_and_asymmetric(point: Point, points: list[tuple[float, ...]]) -> None:
    assert not dominates(point, point)
    for first in points:
        assert not any(dominates(first, second) and dominates(second, first) for second in points)


def test_a_front_is_ranked_by_crowding_distance() -> None:
    # The first objective is 0, 1, 2, 6, 10 along the front; the neighbours of 1 are closest to each other.
    front = [(1.0, 9.0), (2.0, 8.0), (6.0, 4.0), (0.0, 10.0), (10.0, 0.0)]
    assert ranking(front) == [3, 4, 2, 1, 0]


def test_equal_points_keep_their_order() -> None:
    assert ranking([(1.0, 1.0)] * 3 + [(0.0, 2.0)] * 2)[-3:] != [0, 1, 2]
    assert ranking([(1.0, 1.0)] * 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("metric", ["n_parameters", "valid_accuracy"])
def test_the_pruner_keeps_the_best_of_a_rung(metric: str) -> None:
    """Each trial is compared with the lower-numbered trials that have reached the rung; the best half continues."""
    study = Study.model_validate(
        {
            "name": "s",
            "budget": {"n_trials": 7, "max_epochs": 9},
            "objectives": [{"metric": "valid_loss"}, {"metric": metric}],
            "pruner": {"name": "successive_halving", "min_resource": 1, "reduction_factor": 2},
            "space": {"width": {"type": "int", "low": 1, "high": 64}},
        }
    )
    sign = -1 if metric == "valid_accuracy" else 1
    pruner = ParetoPruner(study)

    def advice(trial: int, loss: float, other: float) -> str:
        return pruner.on_epoch(trial, 2, {"valid_loss": loss, metric: sign * other})

    assert advice(0, 0.5, 0.5) == "continue", "the only trial"
    assert advice(1, 0.6, 0.6) == "stop", "dominated by trial 0"
    assert pruner.on_epoch(1, 3, {"valid_loss": 9.0, metric: sign * 9.0}) == "continue", "no rung"
    assert advice(3, 0.1, 0.1) == "continue", "dominates all"
    assert advice(2, 0.4, 0.4) == "continue", "dominates all lower-numbered trials"
    assert advice(4, 0.9, 0.0) == "continue", "at an end of the first front, which has two of the five trials"
    assert advice(5, 0.05, 0.9) == "continue", "at the other end; three of six trials continue"
    assert advice(6, 0.2, 0.2) == "stop", "in the second front, and the first has three trials"
