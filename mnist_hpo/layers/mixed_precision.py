"""Matrix products by precision: `fp32`, or `bf16` with factors rounded to bfloat16 and sums in float32.

Mixed precision as in Micikevicius et al., "Mixed Precision Training" (2018): the master weights, their moments, the
activations between products and the loss stay float32. bfloat16 has the range of float32, so no loss scaling is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from mnist_hpo.kernels.round_to_bf16 import round_to_bf16
from mnist_hpo.kernels.transpose import transpose

DotGeneral = Callable[..., jax.Array]
"""The type of the `dot_general` argument of `nnx.Linear`."""


FACTOR: Mapping[str, DTypeLike] = {"fp32": jnp.float32, "bf16": jnp.bfloat16}
"""The dtype to which a product's factors are rounded, by the value of the hyperparameter `precision`."""


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, kernel: jax.Array, precision: str) -> jax.Array:
    """Multiply f32[B, I] by f32[I, O] to f32[B, O]. The factors of the gradients' products are rounded too.

    The gradients are written out because those that JAX derives are slow on a CPU; see `_backward`.
    """
    return _forward(x, kernel, precision)[0]


def _forward(x: jax.Array, kernel: jax.Array, precision: str) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    dtype = FACTOR[precision]
    factors = x.astype(dtype), kernel.astype(dtype)
    return _sum_products(*factors, 1, 0), factors


def _backward(precision: str, factors: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = factors
    if FACTOR[precision] != gradient.dtype:
        gradient = round_to_bf16(gradient)
    return _sum_products(gradient, kernel, 1, 1), kernel_gradient(x, gradient)


matmul.defvjp(_forward, _backward)


def kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return the sum over the rows of x [N, I] times gradient [N, O], both of a precision's dtype, as f32[I, O]."""
    # XLA has no bfloat16 routine that sums over the rows of both factors (it falls back to float32) and a slow float32
    # one. Its routines for rows times columns are fast, so x is transposed in memory.
    return _sum_products(transpose(x), gradient, 1, 0)


def _sum_products(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    dimensions = (((left_axis,), (right_axis,)), ((), ()))
    return lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)


def dot_general(precision: str) -> DotGeneral:
    """Return the `dot_general` argument of Flax's layers for a precision; it supports factors of any rank."""

    def product(
        x: jax.Array, kernel: jax.Array, dimension_numbers: lax.DotDimensionNumbers, *_arguments: Any, **_options: Any
    ) -> jax.Array:
        (x_axes, kernel_axes), (x_batch, _) = dimension_numbers
        if len(x_batch) > 0:
            factors = x.astype(FACTOR[precision]), kernel.astype(FACTOR[precision])
            return lax.dot_general(*factors, dimension_numbers, preferred_element_type=jnp.float32)
        n_summed = math.prod(x.shape[axis] for axis in x_axes)
        rows, columns = _moved(x, x_axes, -1), _moved(kernel, kernel_axes, 0)
        shape = rows.shape[: x.ndim - len(x_axes)] + columns.shape[len(kernel_axes) :]
        result: jax.Array = matmul(rows.reshape(-1, n_summed), columns.reshape(n_summed, -1), precision)
        return result.reshape(shape)

    return product


def _moved(x: jax.Array, axes: Sequence[int], end: int) -> jax.Array:
    """Move axes, in the given order, to the front (0) or to the end (-1)."""
    places = range(len(axes)) if end == 0 else range(x.ndim - len(axes), x.ndim)
    return x if list(axes) == list(places) else jnp.moveaxis(x, axes, tuple(places))


def round_weights(parameters: Any, is_weight: Any, precision: str) -> Any:
    """Round the weights that are factors of products.

    Args:
        parameters: a tree of f32 arrays.
        is_weight: a tree of bools like `parameters`: whether each array is a weight of products.
        precision: fp32 or bf16.

    Returns:
        The tree with the weights rounded and None for the rest; for fp32, None for all.

    """
    rounds = FACTOR[precision] != jnp.float32
    return jax.tree.map(lambda w, is_weight: round_to_bf16(w) if rounds and is_weight else None, parameters, is_weight)


def round_like(rounded: Any, parameters: Any) -> Any:
    """Cast `parameters` to the dtypes in `rounded`; where that is None, the result is None."""
    return _where_rounded(lambda copy, weight: weight.astype(copy.dtype), lambda _: None, rounded, parameters)


def with_rounded(parameters: Any, rounded: Any) -> Any:
    """Return the parameters that products use: f32 arrays with the rounded values where there are any."""
    return _where_rounded(lambda copy, _: copy.astype(jnp.float32), lambda weight: weight, rounded, parameters)


def _where_rounded(
    then: Callable[[jax.Array, jax.Array], Any], otherwise: Callable[[jax.Array], Any], rounded: Any, parameters: Any
) -> Any:
    def choose(copy: jax.Array | None, weight: jax.Array) -> Any:
        return otherwise(weight) if copy is None else then(copy, weight)

    return jax.tree.map(choose, rounded, parameters, is_leaf=lambda copy: copy is None)
