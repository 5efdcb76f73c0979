"""The initial state of a training, drawn on the host, because compiling it takes a second per architecture."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.flax.variables import Kind, Role, structure_of

_START: dict[Kind, float] = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "variance": 1.0}


def initial_state(program: Program, seed: int) -> core.TrainState:
    """Return the initial state: normal weights with variance 2 / fan-in (He et al., 2015).

    Scales and running variances are one. Biases, running means and the optimiser's moments are zero.

    Returns:
        A state of NumPy arrays rather than device arrays.

    """
    shapes = jax.eval_shape(partial(core.init, program))
    structure, random = structure_of(program), np.random.Generator(np.random.Philox(key=seed))
    return core.TrainState(
        parameters=jax.tree.map(partial(_draw, random), shapes.parameters, structure.parameter_roles),
        optimizer_state=jax.tree.map(_zeros, shapes.optimizer_state),
        step=jax.tree.map(_zeros, shapes.step),
        statistics=jax.tree.map(partial(_draw, random), shapes.statistics, structure.statistic_roles),
    )


def _draw(random: np.random.Generator, shape: jax.ShapeDtypeStruct, role: Role) -> NDArray[np.float32]:
    if role.kind != "weight":
        return np.full(shape.shape, _START[role.kind], shape.dtype)
    return random.standard_normal(shape.shape, dtype=np.float32) * np.float32(math.sqrt(2 / role.fan_in))


def _zeros(shape: jax.ShapeDtypeStruct) -> NDArray[Any]:
    return np.zeros(shape.shape, shape.dtype)
