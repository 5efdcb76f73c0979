"""A Flax model's trainable parameters and FLOPs, from tracing its forward pass without computing it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, Var

from mnist_hpo.kernels.native import references_only
from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.learners.flax.program import Architecture, Program
from mnist_hpo.learners.flax.variables import structure_of
from mnist_hpo.spec.model import Counts


class _Product(NamedTuple):
    """A matrix product or convolution in the forward pass."""

    multiply_adds: int
    n_gradients: int
    """How many factors depend on trainable parameters; each needs a gradient of as many multiply-adds again."""


_Walked = tuple[list[_Product], list[bool]]


@cache
def count(model: str, input_shape: tuple[int, ...], n_classes: int, architecture: Architecture) -> Counts:
    """Count a model's trainable parameters and the products of one example. Elementwise operations are not counted.

    Raises:
        ValueError: the forward pass has products in a loop of unknown length.

    """
    program = Program(model, input_shape, n_classes, architecture, 1, "adam", "fp32")
    structure = structure_of(program)
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)

    def forward(parameters: Any, statistics: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(structure.evaluation, parameters, statistics)(image, no_dropout)

    with references_only():
        jaxpr = jax.make_jaxpr(forward)(structure.parameters, structure.statistics, image).jaxpr
    n_learned = len(jax.tree.leaves(structure.parameters))
    learned = [index < n_learned for index in range(len(jaxpr.invars))]
    products, _ = _walk(jaxpr, learned)
    return Counts(
        n_parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(structure.parameters)),
        forward_flops=2 * sum(product.multiply_adds for product in products),
        train_flops=2 * _total(products),
    )


def _walk(jaxpr: Any, learned: Sequence[bool]) -> _Walked:
    """Find the products of a traced function.

    Args:
        jaxpr: the function.
        learned: for each argument, whether it depends on trainable parameters.

    Returns:
        The products, and for each result of the function, whether it depends on trainable parameters.

    """
    depends = {variable for variable, is_learned in zip(jaxpr.invars, learned, strict=True) if is_learned}
    products: list[_Product] = []
    for equation in jaxpr.eqns:
        inputs = [isinstance(atom, Var) and atom in depends for atom in equation.invars]
        found, outputs = _walk_equation(equation, inputs)
        products += found
        depends.update(itertools.compress(equation.outvars, outputs))
    return products, [isinstance(atom, Var) and atom in depends for atom in jaxpr.outvars]


def _walk_equation(equation: Any, inputs: Sequence[bool]) -> _Walked:
    name, parameters = equation.primitive.name, equation.params
    if name in _MULTIPLY_ADDS:
        return [_Product(_MULTIPLY_ADDS[name](equation), sum(inputs))], [any(inputs)]
    if name == "scan":
        return _walk_scan(parameters, inputs)
    if name == "cond":
        products, of_branches = zip(
            *(_walk(branch.jaxpr, inputs[1:]) for branch in parameters["branches"]), strict=True
        )
        outputs = [any(inputs[:1]) or any(outputs) for outputs in zip(*of_branches, strict=True)]
        return max(products, key=_total), outputs
    functions = [getattr(value, "jaxpr", value) for value in parameters.values() if _is_function(value)]
    if name == "while":
        if any(_walk(function, [True] * len(function.invars))[0] for function in functions):
            raise ValueError("products in a while loop, whose length is unknown; use a scan")
    elif functions:
        # A call: jit, remat, or a function with custom gradients.
        (function,) = functions
        return _walk(function, inputs[len(inputs) - len(function.invars) :])
    return [], [any(inputs)] * len(equation.outvars)


def _walk_scan(parameters: Mapping[str, Any], inputs: Sequence[bool]) -> _Walked:
    function, first, n_carried = parameters["jaxpr"].jaxpr, parameters["num_consts"], parameters["num_carry"]
    inputs = list(inputs)
    while True:
        products, outputs = _walk(function, inputs)
        before = inputs[first : first + n_carried]
        carried = [old or new for old, new in zip(before, outputs[:n_carried], strict=True)]
        if carried == before:
            break
        inputs[first : first + n_carried] = carried  # These carried values depend on trainable parameters.
    n_steps = parameters["length"]
    return [product._replace(multiply_adds=product.multiply_adds * n_steps) for product in products], outputs


def _is_function(value: object) -> bool:
    return isinstance(value, Jaxpr | ClosedJaxpr)


def _total(products: Sequence[_Product]) -> int:
    return sum(product.multiply_adds * (1 + product.n_gradients) for product in products)


def _of_dot(equation: Any) -> int:
    (left_axes, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in left_axes)


def _of_convolution(equation: Any) -> int:
    """Each output sums over all axes of the kernel but the output channels, whose input axis is that of one group."""
    kernel = equation.invars[1].aval.shape
    output_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[output_axis]


_MULTIPLY_ADDS: Mapping[str, Callable[[Any], int]] = {
    "dot_general": _of_dot,
    "conv_general_dilated": _of_convolution,
}
