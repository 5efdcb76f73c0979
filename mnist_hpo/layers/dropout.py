"""Dropout with masks from a hash of the position: (seed, step, layer, example, unit).

Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), scaled at training time.
JAX's random generators draw a mask in a separate loop, which takes half of an MLP's epoch on a CPU. Two rounds of a
multiply-xorshift hash (like the finaliser of MurmurHash3) fuse into the elementwise kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Dropout = Callable[[int, jax.Array], jax.Array]
"""Maps (layer number, activations f32[batch, ...]) to activations of the same shape; layer numbers are unique."""

_WORD = 2.0**32


def no_dropout(_layer: int, x: jax.Array) -> jax.Array:
    """Return the activations unchanged, for evaluation or a rate of zero."""
    return x


def hashed_dropout(seed: jax.Array, step: jax.Array, rate: jax.Array) -> Dropout:
    """Return the dropout function for one training step.

    Args:
        seed: u32[2], the training's seed.
        step: u32[], the number of the step in the training.
        rate: f32[], the probability that a unit is dropped, 0 ≤ rate < 1.

    """
    threshold = (rate * _WORD).astype(jnp.uint32)
    scale = 1.0 / (1.0 - rate)

    def dropout(layer: int, x: jax.Array) -> jax.Array:
        step_key = mix(mix(step ^ seed[0]) + jnp.uint32(layer))
        n_rows, n_columns = x.shape[0], math.prod(x.shape[1:])
        keep = hash_words(n_rows, n_columns, step_key, mix(step_key ^ seed[1])) >= threshold
        return jnp.where(keep.reshape(x.shape), x * scale, 0.0)

    return dropout


def mix(word: jax.Array) -> jax.Array:
    """Apply MurmurHash3's finaliser, u32[...] to u32[...]; each input bit changes about half of the output bits."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def hash_words(n_rows: int, n_columns: int, first_key: jax.Array, second_key: jax.Array) -> jax.Array:
    """Return uniform u32[n_rows, n_columns] from two mixed keys u32[]; the high bits are the best.

    The second key enters between the rounds. Otherwise the masks of two steps would be shifted windows of one sequence.
    """
    shape = (n_rows, n_columns)
    index = lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(n_columns) + lax.broadcasted_iota(
        jnp.uint32, shape, 1
    )
    word = (index ^ first_key) * jnp.uint32(0x9E3779B1)
    word = ((word ^ (word >> 15)) + second_key) * jnp.uint32(0x85EBCA6B)
    return (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
