"""Attention by scaled dot products (Vaswani et al., "Attention Is All You Need", 2017)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.layers.mixed_precision import FACTOR


def attention(query: jax.Array, key: jax.Array, value: jax.Array, precision: str) -> jax.Array:
    """Return softmax(Q K^T / sqrt(D)) V for each example and head, with weights that sum to one over the keys.

    Args:
        query: f32[B, N, T, D], of N heads and T tokens.
        key: f32[B, N, S, D].
        value: f32[B, N, S, D].
        precision: fp32 or bf16: the dtype to which the factors of the products are rounded.

    Returns:
        f32[B, N, T, D].

    """
    dtype = FACTOR[precision]
    # Scaling the queries costs less than scaling the scores.
    query = query * (1 / math.sqrt(query.shape[-1]))
    scores = _products(query.astype(dtype), key.astype(dtype), (3, 3))
    weights = jax.nn.softmax(scores, axis=-1)
    return _products(weights.astype(dtype), value.astype(dtype), (3, 2))


def _products(left: jax.Array, right: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Sum the products over one axis of each factor, for each example and head."""
    dimensions = (((axes[0],), (axes[1],)), ((0, 1), (0, 1)))
    return lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)
