"""Which values a hyperparameter accepts."""

import pytest

from mnist_hpo.spec.parameter import Choice, Number
from mnist_hpo.spec.study import ParameterValue


@pytest.mark.parametrize("value", [1, 2, 16])
def test_an_integer_within_its_bounds_is_accepted(value: ParameterValue) -> None:
    assert Number(int, default=2, low=1, high=16).problem(value) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0, "must be from 1 to 16, not 0"),
        (17, "must be from 1 to 16, not 17"),
        (2.0, "must be a whole number, not 2.0"),
        (True, "must be a whole number, not True"),
        ("2", "must be a whole number, not '2'"),
    ],
)
def test_an_invalid_value_of_an_integer_is_refused(value: ParameterValue, problem: str) -> None:
    assert Number(int, default=2, low=1, high=16).problem(value) == problem


def test_an_open_bound_is_excluded() -> None:
    rate = Number(float, default=1e-3, low=0, high=1, low_open=True)
    assert rate.problem(1) is None
    assert rate.problem(1e-30) is None
    assert rate.problem(0.0) == "must be above 0 to 1, not 0.0"


def test_a_float_may_be_written_as_an_integer_but_not_as_a_string() -> None:
    assert Number(float, default=0.0, low=0, high=1).problem(1) is None
    assert Number(float, default=0.0, low=0, high=1).problem("1") == "must be a number, not '1'"


def test_a_choice_accepts_only_its_names() -> None:
    choice = Choice("relu", ("relu", "tanh"))
    assert choice.problem("tanh") is None
    assert choice.problem("Tanh") == "must be one of relu, tanh, not 'Tanh'"
