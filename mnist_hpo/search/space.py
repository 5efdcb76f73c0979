"""The study file's search space as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, ParameterValue, Space


def distributions(space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """One distribution for each searched hyperparameter, by name."""
    return distributions_of(sorted(space), space)


def distributions_of(names: Iterable[str], space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """The distributions of these hyperparameters, by name, such as those that one trial searches."""
    return {name: distribution(space[name]) for name in names}


def distribution(entry: Space) -> FloatDistribution | IntDistribution | CategoricalDistribution:
    """A space entry as Optuna's distribution."""
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
        return any(same_value(value, choice) for choice in entry.choices)
    if isinstance(value, bool | str) or not entry.low <= value <= entry.high:
        return False
    if isinstance(entry, IntSpace):
        return isinstance(value, int) and (value - entry.low) % (entry.step or 1) == 0
    steps = (value - entry.low) / entry.step if entry.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def same_value(first: ParameterValue, second: ParameterValue) -> bool:
    """Whether two values mean the same: 1 and 1.0 do; 1 and true do not, although Python calls them equal."""
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def corners(entry: Space) -> tuple[ParameterValue, ...]:
    """The values that bound a space entry: where all of them are sensible, what lies between is too."""
    return entry.choices if isinstance(entry, CategoricalSpace) else (entry.low, entry.high)


def n_grid_values(entry: Space) -> int | None:
    """How many values a space entry has, or None where there is no end of them."""
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
    """Every value of a space entry, or None where there is no end of them."""
    n_values = n_grid_values(entry)
    if n_values is None:
        return None
    match entry:
        case CategoricalSpace():
            return entry.choices
        case FloatSpace():
            # In decimals, as they are written: 0.1 + 6 · 0.1 must not come out above 0.7.
            low, step = Decimal(repr(entry.low)), Decimal(repr(entry.step))
            return tuple(float(low + i * step) for i in range(n_values))
        case IntSpace():
            return tuple(entry.low + i * (entry.step or 1) for i in range(n_values))
