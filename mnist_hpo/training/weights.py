"""A model's weights by name (`hidden.0.kernel`), as they lie in files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.training import core
from mnist_hpo.training.hyperparameters import Program


def named(parameters: core.Parameters) -> dict[str, NDArray[np.float32]]:
    """Flatten a tree of weights."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def unnamed(like: core.Parameters, weights: Mapping[str, NDArray[np.float32]]) -> core.Parameters:
    """Put weights back into the structure of a tree.

    Raises:
        KeyError: a weight is missing.

    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    return structure.unflatten([weights[_name(path)] for path, _ in leaves])


def structure_of(program: Program) -> core.Parameters:
    """The tree of a program's weights, as shapes and dtypes."""
    return jax.eval_shape(partial(core.init, program)).parameters


def shapes_of(program: Program) -> dict[str, tuple[int, ...]]:
    """The shape of each of a program's weights, by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(structure_of(program))
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(getattr(key, "key", key)) for key in path)
