"""The study file's search space as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, ParameterValue, Space


def distributions(space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """One distribution for each searched hyperparameter, in the file's order."""
    return {name: _distribution(entry) for name, entry in space.items()}


def _distribution(entry: Space) -> BaseDistribution:
    match entry:
        case FloatSpace():
            return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
        case IntSpace():
            return IntDistribution(entry.low, entry.high, log=entry.log, step=entry.step or 1)
        case CategoricalSpace():
            return CategoricalDistribution(entry.choices)


def holds(entry: Space, value: ParameterValue) -> bool:
    """Whether a value lies in a space entry."""
    if isinstance(entry, CategoricalSpace):
        return value in entry.choices
    if isinstance(value, bool | str) or (isinstance(entry, IntSpace) and not isinstance(value, int)):
        return False
    if not entry.low <= value <= entry.high:
        return False
    steps = (value - entry.low) / (entry.step or 1) if entry.step or isinstance(entry, IntSpace) else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def corners(entry: Space) -> tuple[ParameterValue, ...]:
    """The values that bound a space entry: where all of them are sensible, what lies between is too."""
    return entry.choices if isinstance(entry, CategoricalSpace) else (entry.low, entry.high)


def grid_values(entry: Space) -> tuple[ParameterValue, ...] | None:
    """Every value of a space entry, or None where there is no end of them."""
    match entry:
        case CategoricalSpace():
            return entry.choices
        case FloatSpace() if entry.step is not None:
            n_steps = round((entry.high - entry.low) / entry.step)
            return tuple(entry.low + i * entry.step for i in range(n_steps + 1))
        case IntSpace() if not entry.log:
            return tuple(range(entry.low, entry.high + 1, entry.step or 1))
        case _:
            return None
