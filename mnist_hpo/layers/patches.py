"""Cut images into square patches."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def to_patches(images: jax.Array, size: int) -> jax.Array:
    """Return the patches of images f32[B, H, W, C], row by row, as f32[B, N, size * size * C].

    If height or width is not a multiple of the size, zeros are added below and on the right.
    """
    n, height, width, channels = images.shape
    n_down, n_across = -(-height // size), -(-width // size)
    padding = ((0, 0), (0, n_down * size - height), (0, n_across * size - width), (0, 0))
    cells = jnp.pad(images, padding).reshape(n, n_down, size, n_across, size, channels)
    return cells.swapaxes(2, 3).reshape(n, n_down * n_across, size * size * channels)
