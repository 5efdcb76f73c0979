"""Training that starts from another model's weights: the choice of the last layer, and learning rates by layer."""

from __future__ import annotations

from typing import Any

import jax

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.spec.model import FlaxModel


def is_last(program: Program, path: tuple[Any, ...]) -> bool:
    """Return whether a variable belongs to the last layer, given its path in a tree of parameters or statistics."""
    model = find_model(program.model)
    assert isinstance(model, FlaxModel)
    return path[0].key == model.last_layer


def scale_steps(program: Program, before: Any, after: Any) -> Any:
    """Return the parameters after a step with each layer's own learning rate.

    Every optimiser's update is proportional to the learning rate, so scaling the update equals scaling the learning
    rate, up to rounding.

    Args:
        program: the static configuration, including the factors of the learning rates.
        before: the parameters before the step, a tree of f32 arrays.
        after: the parameters after a step with the full learning rate.

    """
    of_last, of_others = program.learning_rate_factors

    def scaled(path: tuple[Any, ...], old: jax.Array, new: jax.Array) -> jax.Array:
        factor = of_last if is_last(program, path) else of_others
        if factor in (0, 1):
            return new if factor else old
        return old + factor * (new - old)

    return jax.tree.map_with_path(scaled, before, after)
