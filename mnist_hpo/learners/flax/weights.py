"""The tensors of a Flax model by name (`hidden.0.kernel`), as stored in files."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.flax.transfer import is_last
from mnist_hpo.learners.flax.variables import structure_of
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


def named(parameters: core.Parameters, statistics: core.Statistics) -> Tensors:
    """Return copies of the trainable parameters and batch statistics by name. The next epoch reuses their buffers."""
    paths = [*_paths(parameters), *_paths(statistics)]
    return {_name(path): np.array(leaf, copy=True) for path, leaf in paths}


def unnamed(program: Program, tensors: Tensors) -> tuple[core.Parameters, core.Statistics]:
    """Return trainable parameters and batch statistics in the structure of a program's module, from their names.

    Raises:
        KeyError: a tensor is missing.

    """
    structure = structure_of(program)
    parameters, statistics = (
        jax.tree.map_with_path(lambda path, _: tensors[_name(path)], tree)
        for tree in (structure.parameters, structure.statistics)
    )
    return parameters, statistics


def with_weights(program: Program, state: core.TrainState, tensors: Tensors, *, keeps_last: bool) -> core.TrainState:
    """Return a state before the first step with the parameters and batch statistics of another model.

    Args:
        program: the static configuration.
        state: the state, of NumPy arrays.
        tensors: the other model's tensors, by name.
        keeps_last: whether the last layer is copied too; otherwise it keeps its values in `state`.

    Raises:
        UserError: a tensor is missing, or has another shape or dtype.

    """

    def chosen(path: tuple[Any, ...], own: NDArray[Any]) -> NDArray[Any]:
        if is_last(program, path) and not keeps_last:
            return own
        found = tensors.get(_name(path))
        if found is None or (found.shape, found.dtype) != (own.shape, own.dtype):
            theirs = "is missing" if found is None else f"is {found.dtype} of shape {found.shape}"
            raise UserError(
                f"the initial weights do not match the model: {_name(path)} {theirs}, but the model needs "
                f"{own.dtype} of shape {own.shape}; name another model in init_from"
            )
        return found

    parameters, statistics = (jax.tree.map_with_path(chosen, tree) for tree in (state.parameters, state.statistics))
    return state._replace(parameters=parameters, statistics=statistics)


def shapes_of(program: Program) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a program's trainable parameters and batch statistics, by name."""
    structure = structure_of(program)
    paths = [*_paths(structure.parameters), *_paths(structure.statistics)]
    return {_name(path): tuple(leaf.shape) for path, leaf in paths}


def save_state(state: core.TrainState) -> Tensors:
    """Return all tensors of a training's state by name, such as `parameters['hidden'][0]['kernel']` and `step`."""
    return {_key(path): np.asarray(leaf, order="C") for path, leaf in _paths(state)}


def load_state(program: Program, tensors: Tensors) -> core.TrainState:
    """Return the state from the tensors that `save_state` returned.

    Raises:
        KeyError: a tensor is missing.

    """
    shapes = jax.eval_shape(partial(core.init, program))
    return jax.tree.map_with_path(lambda path, _: tensors[_key(path)], shapes)


def _paths(tree: Any) -> list[tuple[tuple[Any, ...], Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _key(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path).removeprefix(".")


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(getattr(key, "key", key)) for key in path)
