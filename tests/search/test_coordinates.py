"""Values and coordinates of the unit cube correspond to each other."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.search.samplers.coordinates import Axis, Coordinates
from mnist_hpo.search.space import grid_values, holds
from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, Study

ENTRIES: list[Any] = [
    FloatSpace(type="float", low=-2.0, high=5.0),
    FloatSpace(type="float", low=1e-6, high=0.1, log=True),
    FloatSpace(type="float", low=0.1, high=0.7, step=0.1),
    FloatSpace(type="float", low=0.3, high=0.3),
    IntSpace(type="int", low=-1, high=7),
    IntSpace(type="int", low=2, high=20, step=3),
    IntSpace(type="int", low=1, high=1000, log=True),
    IntSpace(type="int", low=5, high=5, log=True),
    CategoricalSpace(type="categorical", choices=("adam", "sgd", 3, 2.5)),
    CategoricalSpace(type="categorical", choices=(True, False)),
    CategoricalSpace(type="categorical", choices=("only",)),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
@given(coordinate=st.floats(0, 1))
def test_every_coordinate_has_a_value_of_the_space(entry: Any, coordinate: float) -> None:
    axis = Axis(entry)
    value = axis.value(coordinate)
    assert holds(entry, value)
    snapped = float(axis.snapped(np.array([coordinate]))[0])
    assert axis.value(snapped) == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
    assert 0 <= axis.coordinate(value) <= 1
    if axis.n_choices is None and entry.low < entry.high:
        assert axis.coordinate(value) == pytest.approx(snapped, abs=1e-9)


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
def test_every_value_of_a_grid_has_a_coordinate(entry: Any) -> None:
    axis = Axis(entry)
    values = grid_values(entry) or (range(entry.low, entry.high + 1) if isinstance(entry, IntSpace) else ())
    for value in values:
        found = axis.value(axis.coordinate(value))
        assert found == value
        assert type(found) is type(value)


def test_equal_hyperparameters_have_equal_points_whatever_an_inactive_one_would_be() -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
        "l2": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
    }
    study = Study.model_validate({"name": "s", "budget": {"n_trials": 1, "max_epochs": 1}, "space": space})
    cube = Coordinates(study)
    assert cube.names == ["optimizer", "l2", "momentum"]
    adam, other_adam, sgd, other_sgd = cube.keys(
        np.array([[0.1, 0.2, 0.3], [0.4, 0.6, 0.9], [0.7, 0.2, 0.3], [0.7, 0.2, 0.4]])
    )
    assert adam == other_adam
    assert len({adam, sgd, other_sgd}) == 3
