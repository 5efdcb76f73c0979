"""Dropout and Gaussian noise that are a hash of (seed, step, layer, example, unit).

Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), scaled at training time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mnist_hpo.layers.hashed_words import HashedWords

Scalar = jax.Array | np.float32 | float

_WORD = 2.0**32
_NOISE = 1 << 16
"""Added to a layer's number, so that its noise does not depend on its dropout."""


class Dropout(Protocol):
    """What a module is called with, to regularise its activations. In evaluation, both methods return them unchanged.

    Each layer has its own number, from 0 to 9,999. Activations are f32[batch, ...].
    """

    def __call__(self, layer: int, x: jax.Array) -> jax.Array:
        """Set activations to zero at random, and scale the rest."""
        ...

    @property
    def adds_noise(self) -> bool:
        """Whether `noise` changes activations."""
        ...

    def noise(self, layer: int, x: jax.Array) -> jax.Array:
        """Add Gaussian noise."""
        ...


@dataclass(frozen=True)
class HashedDropout:
    """Dropout and noise for one training step; see `Dropout`.

    Args:
        words: the random words of the step.
        rate: f32[], the probability that a unit is dropped, 0 ≤ rate < 1; None for no dropout.
        deviation: f32[], the standard deviation of the noise; None for no noise.

    """

    words: HashedWords | None = None
    rate: Scalar | None = None
    deviation: Scalar | None = None

    def __call__(self, layer: int, x: jax.Array) -> jax.Array:
        """See `Dropout`."""
        if self.words is None or self.rate is None:
            return x
        threshold = (jnp.asarray(self.rate) * _WORD).astype(jnp.uint32)
        scale = 1.0 / (1.0 - self.rate)
        return jnp.where(self.words.draw(layer, x.shape) >= threshold, x * scale, 0.0)

    @property
    def adds_noise(self) -> bool:
        """See `Dropout`."""
        return self.words is not None and self.deviation is not None

    def noise(self, layer: int, x: jax.Array) -> jax.Array:
        """See `Dropout`."""
        if self.words is None or self.deviation is None:
            return x
        return x + self.deviation * self.words.normal(layer + _NOISE, x.shape)


no_dropout: Dropout = HashedDropout()
"""Returns the activations unchanged, for evaluation or rates of zero."""
