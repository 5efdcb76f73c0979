"""The convolution of a layer, by precision, with gradients in the form that XLA's CPU backend has a routine for.

The backend brings only the convolutions of a program's outermost computation into that form, and an epoch has none
there: its steps are a loop. Left as JAX derives them, the gradients run in naive loops: a step of `vgg` with 8 channels
takes 145 ms in place of 30, with 16 channels 715 ms in place of 40 (batch 64, one core of a Zen 4).
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
    """What `nnx.Conv` takes as `conv_general_dilated`, in this precision: f32[B, H, W, I] to f32[B, H', W', O].

    bf16 rounds the factors, and computes with float32, which gives bfloat16's products: the backend's convolution of
    bfloat16 itself is no faster. Raises ValueError for what is not written here: strides, dilation, and groups.
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
    """f32[B, H, W, I] and f32[h, w, I, O] to f32[B, H', W', O]; the gradients' factors are rounded likewise."""
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
    # The input's: the gradient is convolved with the kernel, turned round.
    turned = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    outer = tuple((n - 1 - before, n - 1 - after) for n, (before, after) in zip(kernel.shape, padding, strict=False))
    x_gradient = _convolve(gradient, turned, outer)
    # The kernel's: each channel of the input, with the examples as its channels, is convolved with the gradient.
    kernel_gradient = _convolve(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), padding)
    return x_gradient, kernel_gradient.transpose(1, 2, 0, 3)


convolution.defvjp(_forward, _backward)


def _convolve(x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_NHWC)


def _rounded(x: jax.Array, precision: str) -> jax.Array:
    """The nearest values that the precision has, as float32."""
    if FACTOR[precision] == jnp.float32:
        return x
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
