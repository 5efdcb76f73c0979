"""A bound on the norm of the weights into each unit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mnist_hpo.learners.flax.optimizers import Scalar
from mnist_hpo.learners.flax.variables import Role


def limit_norms(parameters: Any, roles: Any, max_norm: Scalar) -> Any:
    """Scale the weights into each unit so that their Euclidean norm is at most `max_norm`.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), section 5.1. A unit's
    weights are those that are summed for one output: a column of a dense kernel, one filter of a convolution.

    Args:
        parameters: a tree of f32 arrays.
        roles: a tree like `parameters`. Only weights of products are scaled.
        max_norm: f32[], above 0.

    """

    def limit(weights: jax.Array, role: Role) -> jax.Array:
        if not role.is_weight:
            return weights
        columns = weights.reshape(role.fan_in, -1)
        norms = jnp.sqrt((columns * columns).sum(axis=0, keepdims=True))
        return (columns * jnp.minimum(1.0, max_norm / jnp.maximum(norms, 1e-30))).reshape(weights.shape)

    return jax.tree.map(limit, parameters, roles)
