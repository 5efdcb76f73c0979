"""Random words that are a hash of (seed, step, stream, example, unit).

JAX's generators draw a mask in a separate loop, which takes half of an MLP's epoch on a CPU. Two rounds of a
multiply-xorshift hash (like MurmurHash3's finaliser) fuse into the elementwise operations around the mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclass(frozen=True)
class HashedWords:
    """Random words for one training step.

    Args:
        seed: u32[2], the seed of the training.
        step: u32[], the number of the step in the training.

    """

    seed: jax.Array
    step: jax.Array

    def draw(self, stream: int, shape: tuple[int, ...]) -> jax.Array:
        """Return uniformly distributed u32[*shape]. Each stream is independent of the others."""
        step_key = mix(mix(self.step ^ self.seed[0]) + jnp.uint32(stream))
        n_rows, n_columns = shape[0], math.prod(shape[1:])
        return hash_words(n_rows, n_columns, step_key, mix(step_key ^ self.seed[1])).reshape(shape)

    def uniform(self, stream: int, shape: tuple[int, ...]) -> jax.Array:
        """Return f32[*shape], uniformly distributed between 0 and 1, both excluded, in steps of 2 ** -23."""
        return ((self.draw(stream, shape) >> 9).astype(jnp.float32) + 0.5) * np.float32(2.0**-23)

    def normal(self, stream: int, shape: tuple[int, ...]) -> jax.Array:
        """Return f32[*shape], normally distributed with mean 0 and variance 1, by inversion: at most 5.3."""
        return np.float32(math.sqrt(2)) * lax.erf_inv(2 * self.uniform(stream, shape) - 1)


def mix(word: jax.Array) -> jax.Array:
    """Return MurmurHash3's finaliser, u32[...] to u32[...]: each input bit changes about half of the output bits."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def hash_words(n_rows: int, n_columns: int, first_key: jax.Array, second_key: jax.Array) -> jax.Array:
    """Return uniformly distributed u32[n_rows, n_columns] from two mixed keys u32[]; the high bits are the best.

    The second key is added between the rounds. Without it, two steps' masks would be shifted windows of one sequence.
    """
    shape = (n_rows, n_columns)
    index = lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(n_columns) + lax.broadcasted_iota(
        jnp.uint32, shape, 1
    )
    word = (index ^ first_key) * jnp.uint32(0x9E3779B1)
    word = ((word ^ (word >> 15)) + second_key) * jnp.uint32(0x85EBCA6B)
    return (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
