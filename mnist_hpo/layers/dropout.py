"""Dropout whose masks are a hash of where they fall: (seed, step, layer, example, unit).

Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), scaled at training time.
The library's generators draw a mask as a program of its own, which costs half of an MLP's epoch on a CPU; two rounds
of a multiply-xorshift hash (the kind of finaliser that MurmurHash3 ends with) fuse into the elementwise kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Dropout = Callable[[int, jax.Array], jax.Array]
"""(layer, activations f32[batch, ...]) to activations of the same shape; each layer has a number of its own."""

_WORD = 2.0**32


def no_dropout(_layer: int, x: jax.Array) -> jax.Array:
    """Leave the activations as they are: evaluation, or a rate of zero."""
    return x


def hashed_dropout(seed: jax.Array, step: jax.Array, rate: jax.Array) -> Dropout:
    """Dropout for one training step.

    Args:
        seed: u32[2], the training's own.
        step: u32[], counted through the training.
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
    """MurmurHash3's finaliser, u32[...] to u32[...]: each bit of the word changes about half of the result's."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def hash_words(n_rows: int, n_columns: int, first_key: jax.Array, second_key: jax.Array) -> jax.Array:
    """Evenly distributed u32[n_rows, n_columns] under two mixed keys u32[]; the high bits are the best.

    The second key enters between the rounds: without it two steps' masks would be shifted windows of one sequence.
    """
    shape = (n_rows, n_columns)
    index = lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(n_columns) + lax.broadcasted_iota(
        jnp.uint32, shape, 1
    )
    word = (index ^ first_key) * jnp.uint32(0x9E3779B1)
    word = ((word ^ (word >> 15)) + second_key) * jnp.uint32(0x85EBCA6B)
    return (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
