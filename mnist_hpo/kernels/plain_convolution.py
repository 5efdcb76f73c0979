"""Convolution of images and its gradients in plain JAX, in the form for which XLA's CPU backend has a fast routine.

The backend converts only convolutions in a program's outermost computation to that form. The steps of an epoch are in a
loop, so their convolutions must already have it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, and columns left and right, of zeros around an image; negative numbers crop it."""


def convolve_images(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolve f32[B, H, W, I] and f32[h, w, I, O] to f32[B, H', W', O]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def kernel_gradient(x: jax.Array, gradient: jax.Array, padding: Padding) -> jax.Array:
    """Return the gradient of a loss with respect to a kernel, f32[h, w, I, O].

    It is a convolution of each channel of the input with the gradient, with the examples as channels.

    Args:
        x: the convolution's input, f32[B, H, W, I].
        gradient: the loss's gradient with respect to the convolution's result, f32[B, H', W', O].
        padding: the convolution's.

    """
    return convolve_images(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), padding).transpose(1, 2, 0, 3)


def outer_kernel(kernel: jax.Array) -> jax.Array:
    """Return the kernel, f32[h, w, O, I], of the convolution that computes the input's gradient."""
    return jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)


def outer_padding(kernel_size: tuple[int, int], padding: Padding) -> Padding:
    """Return the padding of the convolution that computes the input's gradient, given a convolution's padding."""
    (top, bottom), (left, right) = padding
    height, width = kernel_size
    return (height - 1 - top, height - 1 - bottom), (width - 1 - left, width - 1 - right)
