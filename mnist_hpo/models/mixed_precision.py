"""The matrix product of a layer, by precision: `fp32`, or `bf16` with factors rounded to bfloat16 and sums in float32.

Mixed precision as in Micikevicius et al., "Mixed Precision Training" (2018): the weights themselves, their moments,
the activations between products and the loss stay float32. bfloat16 has float32's range, so no loss scaling is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from mnist_hpo.kernels.transpose import transpose

DotGeneral = Callable[..., jax.Array]
"""What `nnx.Linear` takes as `dot_general`."""


@jax.custom_vjp
def bf16_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[B, I] times f32[I, O] to f32[B, O]; the gradients' products are rounded likewise.

    The gradients are written out because what JAX derives is slow on a CPU: see `_backward`.
    """
    return _sum_products(_round(x), _round(kernel), 1, 0)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    factors = _round(x), _round(kernel)
    return _sum_products(*factors, 1, 0), factors


def _backward(factors: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = factors
    gradient = _round(gradient)
    # The kernel's gradient sums over the rows of both factors, for which XLA has no bfloat16 routine and falls back to
    # float32. For rows times columns it has one, so x is transposed in memory.
    return _sum_products(gradient, kernel, 1, 1), _sum_products(transpose(x), gradient, 1, 0)


bf16_matmul.defvjp(_forward, _backward)


def _round(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16)


def _sum_products(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    dimensions = (((left_axis,), (right_axis,)), ((), ()))
    return lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)


def _bf16_dot_general(x: jax.Array, kernel: jax.Array, *_arguments: Any, **_options: Any) -> jax.Array:
    return bf16_matmul(x, kernel)


DOT_GENERAL: Mapping[str, DotGeneral] = {"fp32": lax.dot_general, "bf16": _bf16_dot_general}
"""By the value of the hyperparameter `precision`."""
FACTOR: Mapping[str, DTypeLike] = {"fp32": jnp.float32, "bf16": jnp.bfloat16}
"""What a product's factors are rounded to, by the same."""


def round_kernels(parameters: Any, precision: str) -> Any:
    """The parameters' tree with the kernels (rank 2 and more: the factors of products) rounded, and None for the rest.

    Where the precision rounds nothing, None for every one.
    """
    dtype = FACTOR[precision]
    is_rounded = dtype != jnp.float32
    return jax.tree.map(lambda w: w.astype(dtype) if is_rounded and w.ndim > 1 else None, parameters)


def round_like(rounded: Any, parameters: Any) -> Any:
    """Round other parameters as those were that `rounded` was made of."""
    return _where_rounded(lambda copy, weight: weight.astype(copy.dtype), lambda _: None, rounded, parameters)


def with_rounded(parameters: Any, rounded: Any) -> Any:
    """The parameters as products see them: f32 arrays, whose values are the rounded ones where there are such."""
    return _where_rounded(lambda copy, _: copy.astype(jnp.float32), lambda weight: weight, rounded, parameters)


def _where_rounded(
    then: Callable[[jax.Array, jax.Array], Any], otherwise: Callable[[jax.Array], Any], rounded: Any, parameters: Any
) -> Any:
    def choose(copy: jax.Array | None, weight: jax.Array) -> Any:
        return otherwise(weight) if copy is None else then(copy, weight)

    return jax.tree.map(choose, rounded, parameters, is_leaf=lambda copy: copy is None)
