"""Pooling of images by reshaping, since XLA's CPU backend computes the gradients of windowed reductions slowly."""

from __future__ import annotations

import jax


def max_pool(x: jax.Array) -> jax.Array:
    """Return the maximum of each 2 × 2 pixels: f32[B, H, W, C] to f32[B, H // 2, W // 2, C]."""
    return _windows(x).max(axis=(2, 4))


def average_pool(x: jax.Array) -> jax.Array:
    """Return the mean of each 2 × 2 pixels: f32[B, H, W, C] to f32[B, H // 2, W // 2, C]."""
    return _windows(x).mean(axis=(2, 4))


def _windows(x: jax.Array) -> jax.Array:
    n, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels)
