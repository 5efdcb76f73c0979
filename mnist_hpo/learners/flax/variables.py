"""The role of each variable of a module: weight of a product, bias, scale or batch statistic.

The role follows from the type of a Flax layer, never from the variable's rank. Tag the variables of other layers:
`nnx.Param(value, role="weight", fan_in=64)`, `nnx.Param(value, role="scale")`, `nnx.BatchStat(value, role="mean")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import Architecture, Program
from mnist_hpo.spec.model import FlaxModel

Kind = Literal["weight", "bias", "scale", "mean", "variance"]


@dataclass(frozen=True)
class Role:
    """The role of a variable in its layer."""

    kind: Kind
    fan_in: int = 0
    """For a weight: the number of products that are summed for one output."""

    @property
    def is_weight(self) -> bool:
        """Whether it is a factor of products, which is rounded to the precision and penalised by l1 and l2."""
        return self.kind == "weight"


class Structure(NamedTuple):
    """A module without values. Trees are nested dicts by attribute name, with leaves in the order of the names."""

    training: Any
    """The module's graph in training: BatchNorm uses the moments of the batch."""
    evaluation: Any
    """The module's graph in evaluation: BatchNorm uses the running moments."""
    parameters: Any
    """The tree of trainable parameters, as shapes and dtypes."""
    statistics: Any
    """The tree of the running moments of BatchNorm, as shapes and dtypes."""
    parameter_roles: Any
    """The tree of trainable parameters with a `Role` at each leaf."""
    statistic_roles: Any
    """The tree of the running moments with a `Role` at each leaf."""

    @property
    def is_weight(self) -> Any:
        """The tree of trainable parameters with a bool at each leaf; see `Role.is_weight`."""
        return jax.tree.map(lambda role: role.is_weight, self.parameter_roles)


def structure_of(program: Program) -> Structure:
    """Return a program's module without values, from abstract evaluation.

    Raises:
        ValueError: the role of a variable is unknown.

    """
    return _structure(program.model, program.input_shape, program.n_classes, program.architecture, program.precision)


def zeros_of(tree: Any) -> Any:
    """Return a tree of zeros with the shapes and dtypes of a tree."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


@cache
def _structure(
    name: str, input_shape: tuple[int, ...], n_classes: int, architecture: Architecture, precision: str
) -> Structure:
    model = find_model(name)
    assert isinstance(model, FlaxModel)
    build = model.module()
    module = nnx.eval_shape(lambda: build(input_shape, n_classes, dict(architecture), precision, rngs=nnx.Rngs(0)))
    _check_types(name, module)
    roles = _roles(name, module)
    parameters, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    module.train()
    training = nnx.graphdef(module)
    module.eval()
    evaluation = nnx.graphdef(module)
    of_parameters, of_statistics = (_with_roles(tree, roles) for tree in (parameters, statistics))
    return Structure(training, evaluation, parameters, statistics, of_parameters, of_statistics)


def _check_types(name: str, module: nnx.Module) -> None:
    for _, variable in nnx.to_flat_state(nnx.state(module)):
        if not isinstance(variable, nnx.Param | nnx.BatchStat):
            raise ValueError(
                f"the model {name} has variables of {type(variable).__name__}; a module may have nnx.Param and "
                "nnx.BatchStat, and applies dropout by the function that it is called with"
            )


def _roles(name: str, module: nnx.Module) -> dict[tuple[Any, ...], Role]:
    """Return the role of each variable by path."""
    nodes = dict(nnx.iter_graph(module))
    return {
        path: _tagged(node) or _of_layer(nodes[path[:-1]], str(path[-1])) or _unknown(name, path)
        for path, node in nodes.items()
        if isinstance(node, nnx.Variable)
    }


def _tagged(variable: nnx.Variable[Any]) -> Role | None:
    tags = variable.get_metadata()
    if tags.get("role") not in get_args(Kind):
        return None
    return Role(tags["role"], int(tags.get("fan_in", 0)))


def _of_layer(layer: Any, attribute: str) -> Role | None:
    for kind, roles in _LAYERS.items():
        if isinstance(layer, kind) and attribute in roles:
            return roles[attribute](layer)
    return None


def _unknown(name: str, path: tuple[Any, ...]) -> Role:
    where = ".".join(map(str, path))
    raise ValueError(
        f'the model {name}: the role of {where} is unknown; tag it, as in nnx.Param(value, role="weight", fan_in=64) '
        'or nnx.Param(value, role="bias")'
    )


def _with_roles(tree: Any, roles: Mapping[tuple[Any, ...], Role]) -> Any:
    return jax.tree.map_with_path(lambda path, _: roles[tuple(key.key for key in path)], tree)


def _weight(fan_in: Callable[[Any], int]) -> Callable[[Any], Role]:
    return lambda layer: Role("weight", fan_in(layer))


def _is(kind: Kind) -> Callable[[Any], Role]:
    return lambda _: Role(kind)


_NORM: Mapping[str, Callable[[Any], Role]] = {"scale": _is("scale"), "bias": _is("bias")}
_LAYERS: Mapping[type[Any], Mapping[str, Callable[[Any], Role]]] = {
    nnx.Linear: {"kernel": _weight(lambda layer: layer.in_features), "bias": _is("bias")},
    nnx.LinearGeneral: {"kernel": _weight(lambda layer: math.prod(layer.in_features)), "bias": _is("bias")},
    nnx.Conv: {"kernel": _weight(lambda layer: math.prod(layer.kernel_shape[:-1])), "bias": _is("bias")},
    nnx.BatchNorm: {**_NORM, "mean": _is("mean"), "var": _is("variance")},
    nnx.LayerNorm: _NORM,
    nnx.RMSNorm: _NORM,
    nnx.GroupNorm: _NORM,
}
"""The role of a layer's variables, by its type and the attribute's name."""
