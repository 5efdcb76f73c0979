"""Optimisers by name: what makes an update of a gradient, before the learning rate."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Scalar = jax.Array | np.float32 | float
"""f32[], traced or not."""

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def make_optimizer(name: str, momentum: Scalar) -> optax.GradientTransformation:
    """The optimiser of a name; momentum may be traced.

    Raises:
        ValueError: there is no such optimiser.

    """
    match name:
        case "adam" | "adamw":
            return optax.GradientTransformation(_adam_init, _adam_update)  # pyright: ignore[reportArgumentType] (names)
        case "rmsprop":
            return optax.chain(optax.scale_by_rms(decay=0.9), optax.trace(decay=momentum))  # pyright: ignore
        case "sgd":
            return optax.trace(decay=momentum)  # pyright: ignore
        case "sgd_nesterov":
            return optax.trace(decay=momentum, nesterov=True)  # pyright: ignore
        case _:
            raise ValueError(f"no such optimizer: {name}")


class AdamState(NamedTuple):
    """Adam's moments, each a tree like the weights, and the number of updates made."""

    mean: Any
    square: Any
    n_updates: jax.Array
    """f32[]"""


def _adam_init(parameters: Any) -> AdamState:
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return AdamState(zeros, zeros, jnp.float32(0))


def _adam_update(gradients: Any, state: AdamState, _parameters: Any = None) -> tuple[Any, AdamState]:
    """Adam (Kingma & Ba, 2015), with both bias corrections folded into two scalars, as the end of their section 2 says.

    optax's own divides every element of both moments by its correction: two divisions more for each weight, in a step
    that spends a quarter of its time here.
    """
    count = state.n_updates + 1.0
    correction = jnp.sqrt(1.0 - _BETA_2**count)
    step_size, epsilon = correction / (1.0 - _BETA_1**count), _EPSILON * correction
    mean = jax.tree.map(lambda m, g: _BETA_1 * m + (1.0 - _BETA_1) * g, state.mean, gradients)
    square = jax.tree.map(lambda v, g: _BETA_2 * v + (1.0 - _BETA_2) * (g * g), state.square, gradients)
    updates = jax.tree.map(lambda m, v: step_size * m / (jnp.sqrt(v) + epsilon), mean, square)
    return updates, AdamState(mean, square, count)
