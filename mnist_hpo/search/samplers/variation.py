"""The children of evolutionary samplers: crossover and mutation of points of the unit cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnist_hpo.search.samplers.coordinates import Coordinates, Vector

_ETA = 20.0
"""The distribution index of the crossover: children are closer to their parents if it is larger."""
_MUTATION = 0.1
"""The standard deviation of a mutation, as a share of the range."""


@dataclass(frozen=True)
class Variation:
    """How a child differs from its parents."""

    crossover_prob: float
    """The probability that a child has two parents; else it has one."""
    swapping_prob: float
    """The probability that the child has a hyperparameter from its second parent."""
    mutation_prob: float | None
    """The probability that a hyperparameter mutates. None: one per child on average."""

    def child(self, first: Vector, second: Vector, cube: Coordinates, generator: np.random.Generator) -> Vector:
        """Return a child (shape (d,)) of two points."""
        if generator.random() < self.crossover_prob:
            first = _crossed(first, second, self.swapping_prob, cube, generator)
        probability = 1 / cube.n_axes if self.mutation_prob is None else self.mutation_prob
        mutates = generator.random(cube.n_axes) < probability
        return np.where(mutates, _mutated(first, cube, generator), first)


def _crossed(
    first: Vector, second: Vector, swapping_prob: float, cube: Coordinates, generator: np.random.Generator
) -> Vector:
    """Return a point between two parents and a little beyond, by simulated binary crossover; choices are not mixed.

    Deb and Agrawal, "Simulated Binary Crossover for Continuous Search Space" (1995).
    """
    swaps = generator.random(cube.n_axes) < swapping_prob
    near, far = np.where(swaps, second, first), np.where(swaps, first, second)
    u = generator.random(cube.n_axes)
    spread = np.where(u < 0.5, 2 * u, 1 / (2 * (1 - u))) ** (1 / (_ETA + 1))
    mixed = ((1 + spread) * near + (1 - spread) * far) / 2
    return np.where(cube.is_categorical, near, np.clip(mixed, 0, 1))


def _mutated(point: Vector, cube: Coordinates, generator: np.random.Generator) -> Vector:
    """Return a point all of whose hyperparameters have mutated: numbers by a normal step, choices to another one."""
    normal, uniform = generator.standard_normal(cube.n_axes), generator.random(cube.n_axes)
    mutated = point.copy()
    for index, axis in enumerate(cube.axes):
        if axis.n_choices is None:
            step = max(_MUTATION, axis.cell_length(float(point[index]))) * normal[index]
            # Reflected at the ends of the range.
            mutated[index] = abs(1 - abs(1 - (point[index] + step) % 2))
        elif axis.n_choices > 1:
            shift = (1 + int(uniform[index] * (axis.n_choices - 1))) / axis.n_choices
            mutated[index] = (point[index] + shift) % 1
    return mutated
