"""The convolution of a layer, by precision, with gradients in the form for which XLA's CPU backend has a routine.

The backend converts only convolutions of a program's outermost computation to that form, and an epoch has none there,
since its steps are a loop. The gradients that JAX derives would run in naive loops: a step of `vgg` with 8 channels
would take 145 ms instead of 30, with 16 channels 715 ms instead of 40 (batch 64, one core of a Zen 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.layers.mixed_precision import FACTOR

_NHWC = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


def conv_general_dilated(precision: str) -> Callable[..., jax.Array]:
    """Return the argument `conv_general_dilated` of `nnx.Conv` for a precision: f32[B, H, W, I] to f32[B, H', W', O].

    bf16 rounds the factors and computes in float32, which gives the products of bfloat16; the backend's bfloat16
    convolution is not faster. The function raises ValueError for strides, dilation and groups, which are unsupported.
    """

    def convolve(
        x: jax.Array,
        kernel: jax.Array,
        window_strides: Sequence[int],
        padding: str | Sequence[tuple[int, int]],
        *,
        lhs_dilation: Sequence[int],
        rhs_dilation: Sequence[int],
        feature_group_count: int,
        **_options: Any,
    ) -> jax.Array:
        if x.ndim != 4 or feature_group_count != 1 or {*window_strides, *lhs_dilation, *rhs_dilation} != {1}:
            raise ValueError("a convolution over images without strides, dilation and groups is all that is supported")
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        (top, bottom), (left, right) = padding
        return convolution(x, kernel, ((top, bottom), (left, right)), precision)

    return convolve


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, padding: Padding, precision: str) -> jax.Array:
    """Convolve f32[B, H, W, I] with f32[h, w, I, O] to f32[B, H', W', O]; factors of gradients are rounded likewise."""
    return _forward(x, kernel, padding, precision)[0]


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, precision: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    factors = _rounded(x, precision), _rounded(kernel, precision)
    return _convolve(*factors, padding), factors


def _backward(
    padding: Padding, precision: str, factors: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = factors
    gradient = _rounded(gradient, precision)
    # The input's gradient is the convolution of the gradient with the flipped kernel.
    flipped = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    outer = tuple((n - 1 - before, n - 1 - after) for n, (before, after) in zip(kernel.shape, padding, strict=False))
    x_gradient = _convolve(gradient, flipped, outer)
    # The kernel's gradient is the convolution of each input channel, with examples as channels, with the gradient.
    kernel_gradient = _convolve(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), padding)
    return x_gradient, kernel_gradient.transpose(1, 2, 0, 3)


convolution.defvjp(_forward, _backward)


def _convolve(x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_NHWC)


def _rounded(x: jax.Array, precision: str) -> jax.Array:
    """Round to the nearest values of the precision, as float32."""
    if FACTOR[precision] == jnp.float32:
        return x
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
