"""The definition of a hyperparameter: its name, its valid values, and its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnist_hpo.spec.errors import shown
from mnist_hpo.spec.study import ParameterValue

ParameterSet = Mapping[str, ParameterValue]
"""A value for each hyperparameter of a training."""


@dataclass(frozen=True)
class Number:
    """A hyperparameter that is a number between `low` and `high`."""

    kind: type[int] | type[float]
    default: int | float | None
    """The value if a study sets none; None disables what the hyperparameter controls."""
    low: float
    high: float
    low_open: bool = False
    """Whether `low` itself is excluded."""

    def problem(self, value: ParameterValue) -> str | None:
        """Return why this value is invalid, or None if it is valid."""
        if isinstance(value, bool) or not isinstance(value, int if self.kind is int else (int, float)):
            return f"must be {'a whole number' if self.kind is int else 'a number'}, not {shown(value)}"
        if not self.low <= value <= self.high or (self.low_open and value == self.low):
            left = "above" if self.low_open else "from"
            return f"must be {left} {self.low:g} to {self.high:g}, not {shown(value)}"
        return None


@dataclass(frozen=True)
class Choice:
    """A hyperparameter that is one of a few names."""

    default: str
    choices: tuple[str, ...]

    def problem(self, value: ParameterValue) -> str | None:
        """Return why this value is invalid, or None if it is valid."""
        return None if value in self.choices else f"must be one of {', '.join(self.choices)}, not {shown(value)}"


Parameter = Number | Choice
