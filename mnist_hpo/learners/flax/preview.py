"""Training images as the training step changes them, for people to look at."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.layers.hashed_words import HashedWords
from mnist_hpo.learners.flax import schedules
from mnist_hpo.learners.flax.core import Dynamics, step_images
from mnist_hpo.learners.flax.learner import dynamics_of, seed_words
from mnist_hpo.learners.flax.program import Hyperparameters, Program


def changed_images(
    program: Program, hyperparameters: Hyperparameters, images: NDArray[np.uint8], n_steps: int, seed: int
) -> NDArray[np.float32]:
    """Return the images as the first steps of a training change them, if each step's batch is these images.

    Args:
        program: the static configuration.
        hyperparameters: the dynamic configuration.
        images: u8[E, F].
        n_steps: S, the number of steps.
        seed: of the training.

    Returns:
        f32[S, E, F], from 0 to 1 before the noise is added.

    """
    steps = schedules.Steps(epoch=1, n_steps=n_steps, max_epochs=1)
    is_mixed = "mixup" in program.active
    shares = schedules.mixing(hyperparameters.mixup, seed, steps) if is_mixed else [None] * n_steps
    changed: Any = jax.jit(partial(_step, program))
    arguments = dynamics_of(hyperparameters), seed_words(seed), images
    return np.stack([np.asarray(changed(*arguments, np.uint32(step), share)) for step, share in enumerate(shares)])


def _step(
    program: Program,
    dynamics: Dynamics,
    seed: jax.Array,
    images: jax.Array,
    step: jax.Array,
    mixing: jax.Array | None,
) -> jax.Array:
    rows = jnp.arange(len(images), dtype=jnp.int32)
    return step_images(program, dynamics, HashedWords(seed, step), images, rows, mixing)
