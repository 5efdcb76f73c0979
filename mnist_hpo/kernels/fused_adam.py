"""Adam's update of all weights in one pass over memory: an LLVM function that XLA calls.

XLA's CPU backend makes three loops of each tensor's update, which together move twelve streams through memory where
seven would do, and no flag or way of writing it in JAX joins them (CHANGELOG.md lists what was tried). The update was a
fifth to two fifths of an epoch; here it is half of that or less. `fused_adam.ll` holds the function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_hpo.kernels.native import register_kernel

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
"""The betas stand in `fused_adam.ll` too."""


class AdamState(NamedTuple):
    """Adam's moments, each a tree like the weights, and the number of updates made."""

    mean: Any
    square: Any
    n_updates: jax.Array
    """f32[]"""


def init(parameters: Any) -> AdamState:
    """The state before the first update."""
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return AdamState(zeros, zeros, jnp.float32(0))


def update(
    parameters: Any,
    state: AdamState,
    gradients: Any,
    *,
    learning_rate: Any,
    l1: Any,
    l2: Any,
    decoupled: bool,
) -> tuple[Any, AdamState]:
    """One update of Adam (Kingma & Ba, 2015), with the bias corrections folded into two scalars (end of section 2).

    Args:
        parameters: a tree of f32 arrays.
        state: the moments.
        gradients: of the loss without its penalty, a tree like the parameters.
        learning_rate: f32[].
        l1: f32[], the factor of Σ|w| in the loss, over the tensors of rank 2 and more.
        l2: f32[], the factor of Σw².
        decoupled: whether the penalty bypasses the moments (AdamW; Loshchilov & Hutter, 2019).

    """
    weights, structure = jax.tree.flatten(parameters)
    means, squares, slopes = (jax.tree.leaves(tree) for tree in (state.mean, state.square, gradients))
    count = state.n_updates + 1.0
    correction = jnp.sqrt(1.0 - _BETA_2**count)
    hyperparameters = jnp.stack(
        [
            learning_rate,
            correction / (1.0 - _BETA_1**count),
            _EPSILON * correction,
            l1,
            2.0 * l2,
            np.float32(not decoupled),
            np.float32(decoupled),
        ]
    )
    changed = [*weights, *means, *squares]
    call = jax.ffi.ffi_call(
        register_kernel("fused_adam"),
        [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in changed],
        input_output_aliases={1 + index: index for index in range(len(changed))},
    )
    results = call(hyperparameters, *changed, *slopes)
    n = len(weights)
    parameters, mean, square = (structure.unflatten(results[start : start + n]) for start in (0, n, 2 * n))
    return parameters, AdamState(mean, square, count)
