"""Adam's update of all weights in one pass over memory.

XLA's CPU backend compiles each tensor's update to three loops, which read or write twelve streams of memory where seven
would do. No flag and no formulation in JAX fuses them (CHANGELOG.md lists what was tried). They took 20 to 40 % of an
epoch; this kernel takes at most half of that.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.kernels.arithmetic import ONE, TWO, ZERO, Float, fma, from_bits, to_bits
from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    handle_registration,
    input_buffer,
    n_inputs,
    n_outputs,
    output_buffer,
    pointer_to,
    size,
)
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.round_to_bf16 import round_all, round_to_bf16

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
_MEAN_KEPT, _MEAN_NEW = Float(_MEAN_DECAY), Float(0.1)
_SQUARE_KEPT, _SQUARE_NEW = Float(_SQUARE_DECAY), Float(0.001)
_N_SCALARS = 4
_PIECE = 2048
"""Weights that are updated at a time, then rounded while they are in the L1 cache."""
_RECIPROCAL_GUESS_BITS = np.uint32(0x7EF311C3)
"""These bits minus the bits of a positive float are approximately the bits of its reciprocal."""


class AdamState(NamedTuple):
    """Adam's moments, each a tree like the weights, and the number of updates so far."""

    mean: Any
    square: Any
    n_updates: jax.Array
    """f32[]"""


def init(parameters: Any) -> AdamState:
    """Return the state before the first update."""
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
    """Apply one update of Adam (Kingma & Ba, 2015), with bias corrections folded into two scalars (end of section 2).

    The betas are 0.9 and 0.999, epsilon is 1e-8.

    Args:
        parameters: the weights, a tree of f32 arrays.
        state: the moments.
        gradients: the gradients of the loss without its penalty, a tree like `parameters`.
        rounded: a tree like `parameters` with bf16 arrays for tensors of rank 2 and more and None for the others, or
            with None for all. The arrays are overwritten.
        learning_rate: f32[].
        l1: f32[], the factor of Σ|w| in the loss, over the tensors of rank 2 and more.
        l2: f32[], the factor of Σw², over the same tensors.
        decoupled: whether the penalty bypasses the moments (AdamW; Loshchilov & Hutter, 2019).

    Returns:
        The new parameters, the new state and the new rounded weights.

    """
    weights, structure = jax.tree.flatten(parameters)
    copies, copies_structure = jax.tree.flatten(rounded, is_leaf=lambda copy: copy is None)
    means, squares, slopes = (jax.tree.leaves(tree) for tree in (state.mean, state.square, gradients))
    scalars = [jnp.asarray(number, jnp.float32) for number in (learning_rate, l1, l2, decoupled)]
    is_penalised = tuple(weight.ndim > 1 for weight in weights)
    weights, means, squares, n_updates, copies = call_kernel(
        partial(_kernel, is_penalised),
        partial(_reference, is_penalised),
        scalars,
        weights,
        means,
        squares,
        state.n_updates,
        copies,
        slopes,
    )
    new_state = AdamState(structure.unflatten(means), structure.unflatten(squares), n_updates)
    return structure.unflatten(weights), new_state, copies_structure.unflatten(copies)


Lists = tuple[list[Any], list[Any], list[Any], jax.Array, list[Any]]
"""Weights, means, squares, the number of updates, and the rounded weights (None for weights that are not rounded)."""


def _kernel(
    is_penalised: tuple[bool, ...],
    scalars: list[Any],
    weights: list[Any],
    means: list[Any],
    squares: list[Any],
    n_updates: jax.Array,
    copies: list[Any],
    slopes: list[Any],
) -> Lists:
    rounded = [copy for copy in copies if copy is not None]
    changed = [*weights, *means, *squares, n_updates, *rounded]
    roles = np.array(list(zip(is_penalised, [copy is not None for copy in copies], strict=True)), np.uint8)
    call = jax.ffi.ffi_call(
        register_kernel("fused_adam", _handler),
        [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in changed],
        input_output_aliases={_N_SCALARS + index: index for index in range(len(changed))},
    )
    results = iter(call(*scalars, *changed, *slopes, roles))
    new_weights, new_means, new_squares = ([next(results) for _ in weights] for _ in range(3))
    n_updates = next(results)
    return new_weights, new_means, new_squares, n_updates, [None if copy is None else next(results) for copy in copies]


def _reference(
    is_penalised: tuple[bool, ...],
    scalars: list[Any],
    weights: list[Any],
    means: list[Any],
    squares: list[Any],
    n_updates: jax.Array,
    copies: list[Any],
    slopes: list[Any],
) -> Lists:
    learning_rate, l1, l2, decoupled = scalars
    n_updates = n_updates + 1
    correction = jnp.sqrt(-jnp.expm1(n_updates * math.log(_SQUARE_DECAY)))
    step_size = correction / -jnp.expm1(n_updates * math.log(_MEAN_DECAY))
    new: Lists = ([], [], [], n_updates, [])
    for penalised, weight, mean, square, copy, slope in zip(
        is_penalised, weights, means, squares, copies, slopes, strict=True
    ):
        penalty = l1 * jnp.sign(weight) + 2 * l2 * weight if penalised else jnp.zeros_like(weight)
        gradient = slope + (1 - decoupled) * penalty
        mean = _MEAN_KEPT * mean + _MEAN_NEW * gradient
        square = _SQUARE_KEPT * square + _SQUARE_NEW * (gradient * gradient)
        change = step_size * mean / (jnp.sqrt(square) + correction * _EPSILON) + decoupled * penalty
        weight = weight - learning_rate * change
        for results, result in zip(new[:3], (weight, mean, square), strict=True):
            results.append(result)
        new[4].append(None if copy is None else round_to_bf16(weight))
    return new


@compiled
def _reciprocal(divisor: Any) -> Any:
    """Return the reciprocal by Newton's method: the CPU's one slow unit for division and root is busy."""
    guess = from_bits(np.uint32(_RECIPROCAL_GUESS_BITS - to_bits(divisor)))
    guess *= fma(-divisor, guess, TWO)
    guess *= fma(-divisor, guess, TWO)
    guess *= fma(-divisor, guess, TWO)
    return guess


@compiled
def _update(
    weights: NDArray[np.float32],
    means: NDArray[np.float32],
    squares: NDArray[np.float32],
    slopes: NDArray[np.float32],
    rate: Any,
    step_size: Any,
    epsilon: Any,
    l1: Any,
    l2: Any,
    coupled: Any,
    decoupled: Any,
) -> None:
    """Update some weights.

    `step_size` and `epsilon` include the bias corrections; `l2` is the factor in the penalty's gradient. The penalty is
    added to the gradient (`coupled` is 1) or to the update (`decoupled` is 1).
    """
    for i in range(weights.shape[0]):
        weight = weights[i]
        sign_penalty = l1 if weight > ZERO else (-l1 if weight < ZERO else ZERO)
        penalty = fma(l2, weight, sign_penalty)
        gradient = fma(coupled, penalty, slopes[i])
        mean = fma(means[i], _MEAN_KEPT, gradient * _MEAN_NEW)
        square = fma(squares[i], _SQUARE_KEPT, (gradient * gradient) * _SQUARE_NEW)
        adam = (step_size * mean) * _reciprocal(np.sqrt(square) + epsilon)
        weights[i] = fma(-rate, fma(decoupled, penalty, adam), weight)
        means[i] = mean
        squares[i] = square


@compiled
def _power(base: float, exponent: Any) -> float:
    """Return the power by repeated squaring, which gives the same bits everywhere, unlike math libraries."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _handler(call: Any) -> Any:
    """Update n tensors.

    In: learning rate, l1, l2, whether decoupled (1 or 0), f32[] each; then the updated buffers; then n gradients; then
    u8[n, 2]: whether each tensor is penalised, and whether it has a rounded copy.
    Updated in place: n weights, n means, n squares, the number of updates, and the rounded copies.
    """
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    n_changed = n_outputs(frame)
    first_slope = _N_SCALARS + n_changed
    n = n_inputs(frame) - first_slope - 1
    roles = array(data(input_buffer(frame, first_slope + n)), 2 * n, np.uint8)
    rate = array(data(input_buffer(frame, 0)), 1, np.float32)[0]
    l1 = array(data(input_buffer(frame, 1)), 1, np.float32)[0]
    l2 = array(data(input_buffer(frame, 2)), 1, np.float32)[0]
    decoupled = array(data(input_buffer(frame, 3)), 1, np.float32)[0]

    n_updates = array(data(output_buffer(frame, 3 * n)), 1, np.float32)
    n_updates[0] += ONE
    exponent = np.int64(n_updates[0])
    correction = math.sqrt(1.0 - _power(_SQUARE_DECAY, exponent))
    step_size = Float(correction / (1.0 - _power(_MEAN_DECAY, exponent)))
    epsilon = Float(correction * _EPSILON)

    next_copy = 3 * n + 1
    for tensor in range(n):
        n_weights = size(output_buffer(frame, tensor))
        weights = array(data(output_buffer(frame, tensor)), n_weights, np.float32)
        means = array(data(output_buffer(frame, n + tensor)), n_weights, np.float32)
        squares = array(data(output_buffer(frame, 2 * n + tensor)), n_weights, np.float32)
        slopes = array(data(input_buffer(frame, first_slope + tensor)), n_weights, np.float32)
        penalty = Float(roles[2 * tensor])
        has_copy = roles[2 * tensor + 1] != 0
        copy = array(data(output_buffer(frame, next_copy if has_copy else tensor)), n_weights, np.uint16)
        next_copy += np.int64(has_copy)
        for start in range(0, n_weights, _PIECE):
            end = min(start + _PIECE, n_weights)
            _update(
                weights[start:end],
                means[start:end],
                squares[start:end],
                slopes[start:end],
                rate,
                step_size,
                epsilon,
                penalty * l1,
                penalty * (l2 * TWO),
                ONE - decoupled,
                decoupled,
            )
            if has_copy:
                round_all(weights[start:end], copy[start:end])
    return pointer_to(0)
