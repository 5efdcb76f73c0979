"""A training's first state, drawn on the host: a compiled draw would cost a second of compile for each architecture."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.training import core
from mnist_hpo.training.hyperparameters import Program


def initial_state(program: Program, seed: int) -> core.TrainState:
    """Weights by He et al. (2015): normal, with variance 2 / fan-in; biases and the optimiser's moments at zero.

    Returns:
        NumPy arrays in the place of the device's.

    """
    shapes = jax.eval_shape(partial(core.init, program))
    random = np.random.Generator(np.random.Philox(key=seed))
    parameters = jax.tree.map(partial(_draw, random), shapes.parameters)
    return core.TrainState(parameters, *jax.tree.map(_zeros, (shapes.optimizer_state, shapes.step)))


def _draw(random: np.random.Generator, shape: jax.ShapeDtypeStruct) -> NDArray[np.float32]:
    if len(shape.shape) < 2:
        return _zeros(shape)
    fan_in = math.prod(shape.shape[:-1])
    return random.standard_normal(shape.shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_in))


def _zeros(shape: jax.ShapeDtypeStruct) -> NDArray[Any]:
    return np.zeros(shape.shape, shape.dtype)
