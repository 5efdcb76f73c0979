"""Optimisers by name, and their update of the trainable parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_hpo.kernels import fused_adam
from mnist_hpo.layers.mixed_precision import round_like

Scalar = jax.Array | np.float32 | float
"""f32[]; may be traced."""


def init_optimizer(name: str, parameters: Any) -> Any:
    """Return the optimiser's state before the first update.

    Args:
        name: adam, adamw, rmsprop, sgd or sgd_nesterov.
        parameters: a tree of f32 arrays.

    """
    if name in ("adam", "adamw"):
        return fused_adam.init(parameters)
    return _from_optax(name, 0.0).init(parameters)


def update(
    name: str,
    parameters: Any,
    state: Any,
    gradients: Any,
    rounded: Any,
    is_weight: Any,
    *,
    learning_rate: Scalar,
    l1: Scalar,
    l2: Scalar,
    momentum: Scalar,
) -> tuple[Any, Any, Any]:
    """Apply one update to the trainable parameters.

    Args:
        name: the optimiser's name.
        parameters: a tree of f32 arrays.
        state: what `init_optimizer` or the last update returned.
        gradients: the gradients of the loss without its penalty, a tree like `parameters`.
        rounded: the rounded weights, as `round_weights` returns them.
        is_weight: a tree of bools like `parameters`: whether each array is a weight of products.
        learning_rate: the learning rate; may be traced, like all numbers here.
        l1: the factor of Σ|w| in the loss, over the weights of products; biases and scales are not penalised.
        l2: the factor of Σw², likewise.
        momentum: used by rmsprop, sgd and sgd_nesterov.

    Returns:
        The new parameters, the new state and the new rounded weights.

    Raises:
        ValueError: there is no such optimiser.

    """
    if name in ("adam", "adamw"):
        return _adam(
            parameters,
            state,
            gradients,
            rounded,
            is_weight,
            learning_rate=learning_rate,
            l1=l1,
            l2=l2,
            decoupled=name == "adamw",
        )
    gradients = jax.tree.map(jnp.add, gradients, _penalty_gradients(parameters, is_weight, l1, l2))
    updates, state = _from_optax(name, momentum).update(gradients, state)
    parameters = jax.tree.map(lambda p, u: p - learning_rate * u, parameters, updates)
    return parameters, state, round_like(rounded, parameters)


def _adam(
    parameters: Any, state: fused_adam.AdamState, gradients: Any, rounded: Any, is_weight: Any, **options: Any
) -> tuple[Any, fused_adam.AdamState, Any]:
    """Call the kernel, which penalises tensors of rank 2 and more, with weights as matrices and the rest as vectors."""

    def flat(tree: Any) -> Any:
        def flatten(array: jax.Array | None, is_weight: bool) -> jax.Array | None:
            return array if array is None else array.reshape((-1, array.shape[-1]) if is_weight else (-1,))

        return jax.tree.map(flatten, tree, is_weight, is_leaf=lambda array: array is None)

    def shaped(tree: Any) -> Any:
        return jax.tree.map(
            lambda like, array: array if array is None else array.reshape(like.shape),
            parameters,
            tree,
            is_leaf=lambda array: array is None,
        )

    moments = state._replace(mean=flat(state.mean), square=flat(state.square))
    results = fused_adam.update(flat(parameters), moments, flat(gradients), flat(rounded), **options)
    parameters_after, moments, rounded = results
    moments = moments._replace(mean=shaped(moments.mean), square=shaped(moments.square))
    return shaped(parameters_after), moments, shaped(rounded)


def _from_optax(name: str, momentum: Scalar) -> optax.GradientTransformation:
    match name:
        case "rmsprop":
            return optax.chain(optax.scale_by_rms(decay=0.9), optax.trace(decay=momentum))
        case "sgd":
            return optax.trace(decay=momentum)
        case "sgd_nesterov":
            return optax.trace(decay=momentum, nesterov=True)
        case _:
            raise ValueError(f"no such optimizer: {name}")


def _penalty_gradients(parameters: Any, is_weight: Any, l1: Scalar, l2: Scalar) -> Any:
    def gradient(w: jax.Array, is_weight: bool) -> jax.Array:
        return l1 * jnp.sign(w) + 2.0 * l2 * w if is_weight else jnp.zeros_like(w)

    return jax.tree.map(gradient, parameters, is_weight)
