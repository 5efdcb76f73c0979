"""The search space of a study file as Optuna distributions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, ParameterValue, Space


def distributions(space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """Return one distribution per searched hyperparameter, by name."""
    return distributions_of(sorted(space), space)


def distributions_of(names: Iterable[str], space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """Return the distributions of some hyperparameters by name, for example of those that one trial has."""
    return {name: distribution(space[name]) for name in names}


def distribution(entry: Space) -> FloatDistribution | IntDistribution | CategoricalDistribution:
    """Return a space entry as an Optuna distribution."""
    match entry:
        case FloatSpace():
            return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
        case IntSpace():
            return IntDistribution(entry.low, entry.high, log=entry.log, step=entry.step or 1)
        case CategoricalSpace():
            return CategoricalDistribution(entry.choices)


def holds(entry: Space, value: ParameterValue) -> bool:
    """Return whether a space entry contains a value."""
    if isinstance(entry, CategoricalSpace):
        return any(same_value(value, choice) for choice in entry.choices)
    if isinstance(value, bool | str) or not entry.low <= value <= entry.high:
        return False
    if isinstance(entry, IntSpace):
        return isinstance(value, int) and (value - entry.low) % (entry.step or 1) == 0
    steps = (value - entry.low) / entry.step if entry.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def same_value(first: ParameterValue, second: ParameterValue) -> bool:
    """Return whether two values are the same: 1 and 1.0 are; 1 and true are not, although they are equal in Python."""
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def corners(entry: Space) -> tuple[ParameterValue, ...]:
    """Return the values that bound a space entry. If all of them are valid, all values between them are."""
    return entry.choices if isinstance(entry, CategoricalSpace) else (entry.low, entry.high)


def n_grid_values(entry: Space) -> int | None:
    """Return the number of values of a space entry, or None if it is not a grid."""
    match entry:
        case CategoricalSpace():
            return len(entry.choices)
        case FloatSpace() if entry.step is not None:
            return round((entry.high - entry.low) / entry.step) + 1
        case IntSpace() if not entry.log:
            return (entry.high - entry.low) // (entry.step or 1) + 1
        case _:
            return None


def grid_values(entry: Space) -> tuple[ParameterValue, ...] | None:
    """Return all values of a space entry, or None if it is not a grid."""
    n_values = n_grid_values(entry)
    if n_values is None:
        return None
    match entry:
        case CategoricalSpace():
            return entry.choices
        case FloatSpace():
            # In decimal arithmetic, so that 0.1 + 6 · 0.1 is not above 0.7.
            low, step = Decimal(repr(entry.low)), Decimal(repr(entry.step))
            return tuple(float(low + i * step) for i in range(n_values))
        case IntSpace():
            return tuple(entry.low + i * (entry.step or 1) for i in range(n_values))
