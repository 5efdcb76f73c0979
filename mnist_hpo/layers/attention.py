"""Multi-head self-attention (Vaswani et al., "Attention Is All You Need", 2017)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def attention(queries_keys_values: jax.Array, n_heads: int) -> jax.Array:
    """Return the values of each place, weighted by the softmax of its query's scaled products with all keys.

    Args:
        queries_keys_values: f32[B, N, 3 D], side by side.
        n_heads: divides D; each head has D / n_heads of the queries, keys and values.

    Returns:
        f32[B, N, D], the heads side by side.

    """
    n, n_places, width = queries_keys_values.shape
    size = width // 3 // n_heads
    parts = queries_keys_values.reshape(n, n_places, 3, n_heads, size).transpose(2, 0, 3, 1, 4)
    queries, keys, values = parts[0], parts[1], parts[2]
    scores = jnp.einsum("bhik,bhjk->bhij", queries, keys) / math.sqrt(size)
    weighted = jnp.einsum("bhij,bhjk->bhik", jax.nn.softmax(scores, axis=-1), values)
    return weighted.transpose(0, 2, 1, 3).reshape(n, n_places, n_heads * size)
