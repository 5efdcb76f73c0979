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


def initial_state(program: Program, seed: int, initializer: str = "he") -> core.TrainState:
    """Return the initial state.

    Weights are normal. Scales and running variances are one. Biases, running means, the optimiser's moments and the
    average of the weights are zero.

    Args:
        program: the static configuration.
        seed: the seed of the training.
        initializer: `he` for a variance of 2 / fan-in (He et al., "Delving Deep into Rectifiers", 2015), or `xavier`
            for 2 / (fan-in + fan-out) (Glorot & Bengio, "Understanding the Difficulty of Training Deep Feedforward
            Neural Networks", 2010).

    Returns:
        A state of NumPy arrays rather than device arrays.

    """
    shapes = jax.eval_shape(partial(core.init, program))
    structure, random = structure_of(program), np.random.Generator(np.random.Philox(key=seed))
    draw = partial(_draw, random, initializer)
    return core.TrainState(
        parameters=jax.tree.map(draw, shapes.parameters, structure.parameter_roles),
        optimizer_state=jax.tree.map(_zeros, shapes.optimizer_state),
        step=jax.tree.map(_zeros, shapes.step),
        statistics=jax.tree.map(draw, shapes.statistics, structure.statistic_roles),
        average=jax.tree.map(_zeros, shapes.average),
    )


def _draw(
    random: np.random.Generator, initializer: str, shape: jax.ShapeDtypeStruct, role: Role
) -> NDArray[np.float32]:
    if role.kind != "weight":
        return np.full(shape.shape, _START[role.kind], shape.dtype)
    variance = 2 / role.fan_in if initializer == "he" else 2 / (role.fan_in + _fan_out(shape.shape, role.fan_in))
    return random.standard_normal(shape.shape, dtype=np.float32) * np.float32(math.sqrt(variance))


def _fan_out(shape: tuple[int, ...], fan_in: int) -> float:
    """Return how many products one input is a factor of: each of a convolution's inputs is in as many as outputs."""
    n_outputs = math.prod(shape) / fan_in
    is_convolution = len(shape) == 4 and fan_in == math.prod(shape[:-1])
    return n_outputs * math.prod(shape[:-2]) if is_convolution else n_outputs


def _zeros(shape: jax.ShapeDtypeStruct) -> NDArray[Any]:
    return np.zeros(shape.shape, shape.dtype)
