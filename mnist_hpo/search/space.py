"""The study file's search space as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, ParameterValue, Space


def distributions(space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """One distribution for each searched hyperparameter, by name: samplers draw in this order, and the file's decides
    nothing."""
    return {name: _distribution(entry) for name, entry in sorted(space.items())}


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


def grid_size(entry: Space) -> int | None:
    """The number of `grid_values`, counted without making them."""
    match entry:
        case CategoricalSpace():
            return len(entry.choices)
        case FloatSpace() if entry.step is not None:
            low, high, step = _decimals(entry.low, entry.high, entry.step)
            return round((high - low) / step) + 1
        case IntSpace() if not entry.log:
            return (entry.high - entry.low) // (entry.step or 1) + 1
        case _:
            return None


def grid_values(entry: Space) -> tuple[ParameterValue, ...] | None:
    """Every value of a space entry, or None where there is no end of them."""
    match entry:
        case CategoricalSpace():
            return entry.choices
        case FloatSpace() if entry.step is not None:
            low, _, step = _decimals(entry.low, entry.high, entry.step)
            return tuple(float(low + i * step) for i in range(grid_size(entry) or 0))
        case IntSpace() if not entry.log:
            return tuple(range(entry.low, entry.high + 1, entry.step or 1))
        case _:
            return None


def _decimals(low: float, high: float, step: float) -> tuple[Decimal, Decimal, Decimal]:
    """The numbers as they are written: 0.1 + 6 · 0.1 must not come out above 0.7."""
    return Decimal(repr(low)), Decimal(repr(high)), Decimal(repr(step))
