"""The search space as the unit cube, with one coordinate for each hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.search.space import n_grid_values
from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, IntSpace, ParameterValue, Study

Vector = NDArray[np.float64]
"""Shape (d,): a point of the unit cube, with the hyperparameters in the order of `Coordinates.names`."""

Points = NDArray[np.float64]
"""Shape (n, d): n points."""

_INACTIVE = 0.5
_SAME = 1e-12
_N_DIGITS = 9
"""Digits of a coordinate in which points may differ."""


class Axis:
    """One hyperparameter as a coordinate from 0 to 1.

    Values that are choices or have a step divide the range into cells of equal length, and are at the centers. Integers
    with `log` have cells from value - 0.5 to value + 0.5 on the logarithmic scale.
    """

    def __init__(self, entry: FloatSpace | IntSpace | CategoricalSpace) -> None:
        self._entry = entry
        self._n_cells = n_grid_values(entry)
        self._low = self._length = 0.0
        if self._n_cells is None and not isinstance(entry, CategoricalSpace):
            margin = 0.5 if isinstance(entry, IntSpace) else 0.0
            low, high = (math.log(end) if entry.log else end for end in (entry.low - margin, entry.high + margin))
            self._low, self._length = low, high - low

    @property
    def n_choices(self) -> int | None:
        """The number of choices of a categorical hyperparameter, whose order has no meaning; None for a number."""
        return len(self._entry.choices) if isinstance(self._entry, CategoricalSpace) else None

    def cell_length(self, coordinate: float) -> float:
        """Return the length of the cell around a coordinate; 0 for a real number without a step."""
        if self._n_cells is not None:
            return 1 / self._n_cells
        if isinstance(self._entry, IntSpace):
            value = float(self.value(coordinate))
            return math.log((value + 0.5) / (value - 0.5)) / self._length
        return 0.0

    def snapped(self, coordinates: Vector) -> Vector:
        """Return the coordinates (any shape) of the values in whose cells these coordinates are."""
        if self._n_cells is not None:
            cells = np.minimum(np.floor(coordinates * self._n_cells), self._n_cells - 1)
            return (cells + 0.5) / self._n_cells
        if isinstance(self._entry, IntSpace):
            values = np.round(np.exp(self._low + coordinates * self._length))
            return (np.log(np.clip(values, self._entry.low, self._entry.high)) - self._low) / self._length
        return coordinates

    def coordinate(self, value: ParameterValue) -> float:
        """Return the coordinate of a value."""
        entry = self._entry
        if isinstance(entry, CategoricalSpace):
            return (entry.choices.index(value) + 0.5) / len(entry.choices)
        number = float(value)
        if self._n_cells is not None:
            return (round((number - entry.low) / (entry.step or 1)) + 0.5) / self._n_cells
        scaled = math.log(number) if entry.log else number
        return (scaled - self._low) / self._length if self._length else _INACTIVE

    def value(self, coordinate: float) -> ParameterValue:
        """Return the value in whose cell a coordinate is."""
        entry = self._entry
        cell = min(int(coordinate * self._n_cells), self._n_cells - 1) if self._n_cells is not None else 0
        match entry:
            case CategoricalSpace():
                return entry.choices[cell]
            case IntSpace():
                if self._n_cells is not None:
                    return entry.low + cell * (entry.step or 1)
                return min(max(round(math.exp(self._low + coordinate * self._length)), entry.low), entry.high)
            case FloatSpace():
                if entry.step is not None:
                    # In decimal arithmetic, so that 0.1 + 2 · 0.1 is 0.3.
                    return min(float(Decimal(repr(entry.low)) + cell * Decimal(repr(entry.step))), entry.high)
                scaled = self._low + coordinate * self._length
                return min(max(math.exp(scaled) if entry.log else scaled, entry.low), entry.high)


class Coordinates:
    """A study's search space as the unit cube. Every point also has values for hyperparameters that are not active."""

    def __init__(self, study: Study) -> None:
        self.names = study.search_order()
        self._space = study.space
        self.axes = [Axis(study.space[name]) for name in self.names]
        self.is_categorical: NDArray[np.bool_] = np.array([axis.n_choices is not None for axis in self.axes])

    @property
    def n_axes(self) -> int:
        """The number d of hyperparameters."""
        return len(self.axes)

    def point_of(self, parameters: Mapping[str, ParameterValue], proposed: Vector | None) -> Vector:
        """Return the point of a trial.

        Args:
            parameters: the trial's searched hyperparameters.
            proposed: the point that the sampler proposed for the trial. Its coordinates are kept unless the trial has
                another value, which was enqueued. None: hyperparameters that the trial does not have are at 0.5.

        """
        point = np.full(self.n_axes, _INACTIVE) if proposed is None else proposed.copy()
        for index, (name, axis) in enumerate(zip(self.names, self.axes, strict=True)):
            if name in parameters and axis.value(float(point[index])) != parameters[name]:
                point[index] = axis.coordinate(parameters[name])
        return point

    def values_at(self, point: Vector) -> dict[str, ParameterValue]:
        """Return the values of all hyperparameters at a point, whether their `when` holds or not."""
        return {name: axis.value(float(c)) for name, axis, c in zip(self.names, self.axes, point, strict=True)}

    def snapped(self, points: Points) -> Points:
        """Return the points whose values these points stand for, so that equal points mean equal hyperparameters.

        A hyperparameter whose `when` does not hold is at 0.5.
        """
        columns = dict[str, Vector]()
        active = dict[str, NDArray[np.bool_]]()
        for index, (name, axis) in enumerate(zip(self.names, self.axes, strict=True)):
            holds = np.full(len(points), True)
            for other, values in (self._space[name].when or {}).items():
                other_axis = self.axes[self.names.index(other)]
                wanted = np.array([other_axis.coordinate(value) for value in values])
                near = np.abs(columns[other][:, None] - wanted[None, :]) < _SAME
                holds &= active[other] & near.any(axis=1)
            active[name] = holds
            columns[name] = np.where(holds, axis.snapped(points[:, index]), _INACTIVE)
        return np.stack(list(columns.values()), axis=1)

    def keys(self, points: Points) -> list[bytes]:
        """Return one key per point; points that mean equal hyperparameters have equal keys."""
        return [row.tobytes() for row in np.round(self.snapped(points), _N_DIGITS)]
