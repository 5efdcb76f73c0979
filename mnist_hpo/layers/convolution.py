"""Convolution by precision, with gradients that are fast on CPUs.

On a CPU, batches are convolved by this package's kernels. Single images and other platforms use XLA's convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.kernels.blocked_images import EXAMPLES, from_blocks, to_blocks
from mnist_hpo.kernels.convolution_gradient import convolution_gradient
from mnist_hpo.kernels.convolve import convolve
from mnist_hpo.kernels.native import uses_kernels
from mnist_hpo.kernels.plain_convolution import (
    Padding,
    convolve_images,
    kernel_gradient,
    outer_kernel,
    outer_padding,
)
from mnist_hpo.layers.mixed_precision import FACTOR


def conv_general_dilated(precision: str) -> Callable[..., jax.Array]:
    """Return the `conv_general_dilated` argument of `nnx.Conv` for a precision: f32[B, H, W, I] to f32[B, H', W', O].

    bf16 rounds the factors to bfloat16 and computes in float32, which gives the same products: the backend's bfloat16
    convolution is no faster. The function raises ValueError for strides, dilation and groups, which are not supported.
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
            raise ValueError("only a convolution over images without strides, dilation and groups is supported")
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (1, 1), padding)
        (top, bottom), (left, right) = padding
        return convolution(x, kernel, ((top, bottom), (left, right)), precision)

    return convolve


def suits_kernels(shape: Sequence[int]) -> bool:
    """Return whether images of shape [B, H, W, C] are convolved by kernels, which need half a block of examples."""
    return uses_kernels() and shape[0] >= EXAMPLES // 2


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, padding: Padding, precision: str) -> jax.Array:
    """Convolve f32[B, H, W, I] and f32[h, w, I, O] to f32[B, H', W', O]. The gradients' factors are rounded too."""
    return _forward(x, kernel, padding, precision)[0]


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, precision: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if suits_kernels(x.shape):
        blocks = to_blocks(x, FACTOR[precision])
        return from_blocks(convolve(blocks, kernel, padding)[0], len(x)), (blocks, kernel)
    factors = _rounded(x, precision), _rounded(kernel, precision)
    return convolve_images(*factors, padding), factors


def _backward(
    padding: Padding, precision: str, factors: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = factors
    size = kernel.shape[0], kernel.shape[1]
    outer = outer_padding(size, padding)
    if x.ndim > gradient.ndim:
        blocks = to_blocks(gradient, FACTOR[precision])
        slopes, _ = convolve(blocks, kernel, outer, transposed=True)
        return from_blocks(slopes, len(gradient)), convolution_gradient(x, blocks, size, padding)
    gradient = _rounded(gradient, precision)
    return convolve_images(gradient, outer_kernel(kernel), outer), kernel_gradient(x, gradient, padding)


convolution.defvjp(_forward, _backward)


def _rounded(x: jax.Array, precision: str) -> jax.Array:
    """Return the nearest values of the precision, as float32."""
    if FACTOR[precision] == jnp.float32:
        return x
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
