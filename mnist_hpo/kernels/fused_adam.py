"""Adam's update of all weights in one pass over memory: an LLVM function that XLA calls.

XLA's CPU backend makes three loops of each tensor's update, which together move twelve streams through memory where
seven would do, and no flag or way of writing it in JAX joins them (CHANGELOG.md lists what was tried). The update was a
fifth to two fifths of an epoch; here it is half of that or less. `fused_adam.ll` holds the function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mnist_hpo.kernels.native import register_kernel


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
    rounded: Any,
    *,
    learning_rate: Any,
    l1: Any,
    l2: Any,
    decoupled: bool,
) -> tuple[Any, AdamState, Any]:
    """One update of Adam (Kingma & Ba, 2015), with the bias corrections folded into two scalars (end of section 2).

    Its betas are 0.9 and 0.999, its epsilon is 1e-8; `fused_adam.ll` holds them.

    Args:
        parameters: a tree of f32 arrays.
        state: the moments.
        gradients: of the loss without its penalty, a tree like the parameters.
        rounded: the parameters' tree with bf16 arrays in the place of all tensors of rank 2 and more and None for the
            others, or with None for every one. What they hold is overwritten.
        learning_rate: f32[].
        l1: f32[], the factor of Σ|w| in the loss, over the tensors of rank 2 and more.
        l2: f32[], the factor of Σw².
        decoupled: whether the penalty bypasses the moments (AdamW; Loshchilov & Hutter, 2019).

    Returns:
        The new parameters, the new state, and the new parameters rounded.

    """
    weights, structure = jax.tree.flatten(parameters)
    copies, copies_structure = jax.tree.flatten(rounded)
    means, squares, slopes = (jax.tree.leaves(tree) for tree in (state.mean, state.square, gradients))
    told = [jnp.asarray(number, jnp.float32) for number in (learning_rate, l1, l2, decoupled)]
    changed = [*weights, *means, *squares, state.n_updates, *copies]
    call = jax.ffi.ffi_call(
        register_kernel("fused_adam"),
        [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in changed],
        input_output_aliases={len(told) + index: index for index in range(len(changed))},
    )
    results = call(*told, *changed, *slopes)
    n = len(weights)
    parameters, mean, square = (structure.unflatten(results[start : start + n]) for start in (0, n, 2 * n))
    n_updates, *copies = results[3 * n :]
    return parameters, AdamState(mean, square, n_updates), copies_structure.unflatten(copies)
