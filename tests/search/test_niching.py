"""The selection of NSGA-III."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.search.pareto import fronts
from mnist_hpo.search.samplers.niching import reference_directions, spread_selection


@pytest.mark.parametrize(("n_objectives", "n_divisions"), [(2, 3), (3, 4), (4, 20), (2, 1)])
def test_reference_directions_are_all_points_of_the_simplex_grid(n_objectives: int, n_divisions: int) -> None:
    directions = reference_directions(n_objectives, n_divisions)
    assert len(np.unique(directions, axis=0)) == len(directions)
    assert len(directions) == math.comb(n_objectives + n_divisions - 1, n_divisions)
    np.testing.assert_allclose(directions.sum(axis=1), 1)
    np.testing.assert_allclose(directions * n_divisions, np.round(directions * n_divisions))
    assert (directions >= 0).all()


VALUES = st.sampled_from([0.0, 1.0, 2.0, 5.0, 1e9])


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=15), st.integers(1, 15))
def test_a_selection_takes_whole_fronts_and_a_part_of_the_next(points: list[tuple[float, ...]], n: int) -> None:
    chosen = spread_selection(points, n, 3)
    assert len(chosen) == len(set(chosen)) == min(n, len(points))
    left = set(chosen)
    for front in fronts(points):
        taken = left & set(front)
        left -= taken
        assert taken == set(front) or not left


def test_a_selection_spreads_over_the_directions() -> None:
    """Of eleven points of a line, most of them near one end, the ends and the middle are taken."""
    shares = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.5, 0.51, 1.0]
    points = [(share, 1 - share) for share in shares]
    assert {shares[index] for index in spread_selection(points, 3, 2)} == {0.0, 0.5, 1.0}
