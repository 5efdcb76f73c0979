"""Recurrent layers over a sequence: the gated recurrent unit (GRU) and long short-term memory (LSTM)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.kernels.plain_recurrence import Cell, delayed
from mnist_hpo.kernels.recurrence import recurrence, recurrence_outputs
from mnist_hpo.kernels.recurrence_gradient import recurrence_gradient
from mnist_hpo.layers.mixed_precision import FACTOR, kernel_gradient

_Arguments = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]
_Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def recur(
    x: jax.Array,
    input_kernel: jax.Array,
    bias: jax.Array,
    kernel: jax.Array,
    noise: jax.Array | None,
    cell: Cell,
    precision: str,
    reverse: bool,
) -> jax.Array:
    """Project a sequence and apply a cell to it, from a carry of zeros.

    Args:
        x: f32[T, B, I].
        input_kernel: f32[I, G], the kernel of the projection.
        bias: f32[G], which is added to the projection.
        kernel: f32[H, G], the recurrent kernel.
        noise: f32[T, B, G], which is added to the projection too, and is not differentiated; None for no noise.
        cell: the cell.
        precision: fp32 or bf16: the dtype to which the factors of products are rounded.
        reverse: whether to go from the last time step to the first.

    Returns:
        The output of each time step, f32[T, B, H].

    """
    factors = _factors((x, input_kernel, bias, kernel, noise), precision)
    return recurrence_outputs(*factors, cell=cell, reverse=reverse)


def _factors(arguments: _Arguments, precision: str) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return x, the kernel of the projection, what is added to the projection, and the recurrent kernel."""
    x, input_kernel, bias, kernel, noise = arguments
    dtype, offset = FACTOR[precision], bias[None, None]
    added = offset if noise is None else offset + noise
    return x.astype(dtype), input_kernel.astype(dtype), added, kernel.astype(dtype)


def _forward(
    x: jax.Array,
    input_kernel: jax.Array,
    bias: jax.Array,
    kernel: jax.Array,
    noise: jax.Array | None,
    cell: Cell,
    precision: str,
    reverse: bool,
) -> tuple[jax.Array, _Residuals]:
    factors = _factors((x, input_kernel, bias, kernel, noise), precision)
    outputs, saved = recurrence(*factors, cell=cell, reverse=reverse)
    return outputs, (factors[0], factors[1], factors[3], outputs, saved)


def _backward(
    cell: Cell, _precision: str, reverse: bool, residuals: _Residuals, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, None]:
    x, input_kernel, kernel, outputs, saved = residuals
    of_inputs, of_bias, of_products = recurrence_gradient(gradient, outputs, saved, kernel, cell=cell, reverse=reverse)
    of_x = lax.dot_general(of_inputs, input_kernel, (((2,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    # One product over all time steps for each kernel; a product in each step would be slower.
    of_input_kernel = kernel_gradient(_rows(x), _rows(of_inputs))
    of_kernel = kernel_gradient(_rows(delayed(outputs, reverse).astype(x.dtype)), _rows(of_products))
    return of_x, of_input_kernel, of_bias, of_kernel, None


recur.defvjp(_forward, _backward)


def _rows(sequence: jax.Array) -> jax.Array:
    """Return [T, B, N] as [T · B, N]."""
    return sequence.reshape(-1, sequence.shape[2])
