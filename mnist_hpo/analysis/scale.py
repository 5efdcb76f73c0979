"""The scale on which a study searches a hyperparameter: the position of a value in its range."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mnist_hpo.spec.study import CategoricalSpace, ParameterValue, Space, Study
from mnist_hpo.storage.records import TrialRecord


def fraction(entry: Space, value: ParameterValue) -> float:
    """Return the position of a value in its range, from 0 to 1, on the linear or log scale that is searched.

    For a categorical hyperparameter, this is the position in the list of choices.
    """
    if isinstance(entry, CategoricalSpace):
        return entry.choices.index(value) / max(len(entry.choices) - 1, 1)
    if entry.low == entry.high:
        return 0.5
    if entry.log:
        return math.log(float(value) / entry.low) / math.log(entry.high / entry.low)
    return (float(value) - entry.low) / (entry.high - entry.low)


def fractions(study: Study, trial: TrialRecord, names: Iterable[str]) -> list[float | None]:
    """Return the `fraction` of a trial's value for each hyperparameter; None for one that the trial does not have."""
    return [fraction(study.space[name], trial.parameters[name]) if name in trial.parameters else None for name in names]


def is_single(entry: Space) -> bool:
    """Return whether the space has a single value."""
    return len(entry.choices) == 1 if isinstance(entry, CategoricalSpace) else entry.low == entry.high


def is_ordered(entry: Space) -> bool:
    """Return whether the values have an order: numbers, including numeric choices."""
    if not isinstance(entry, CategoricalSpace):
        return True
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in entry.choices)
