"""The elementwise part of a time step of GRUs and LSTMs, for 16 units of one example; `plain_recurrence` has formulas.

Addresses are int64. The arrays of an example's units are contiguous.
"""

from __future__ import annotations

from typing import Any

from mnist_hpo.kernels.arithmetic import ONE, Float
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.vectors import (
    VECTOR_BYTES,
    add,
    clipped,
    divide,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    store_rounded,
    subtract,
)

_HALF = Float(0.5)
_LARGEST = Float(7.90531110763549805)
_NUMERATOR = tuple(
    map(
        Float,
        (
            -2.76076847742355e-16,
            2.00018790482477e-13,
            -8.60467152213735e-11,
            5.12229709037114e-08,
            1.48572235717979e-05,
            6.37261928875436e-04,
            4.89352455891786e-03,
        ),
    )
)
_DENOMINATOR = tuple(
    map(Float, (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03))
)


@compiled
def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent: the rational approximation of Eigen, with an error of a few units of 2^-24."""
    x = clipped(x, splat(_LARGEST))
    square = multiply(x, x)
    p = multiply_add(square, splat(_NUMERATOR[0]), splat(_NUMERATOR[1]))
    p = multiply_add(square, p, splat(_NUMERATOR[2]))
    p = multiply_add(square, p, splat(_NUMERATOR[3]))
    p = multiply_add(square, p, splat(_NUMERATOR[4]))
    p = multiply_add(square, p, splat(_NUMERATOR[5]))
    p = multiply_add(square, p, splat(_NUMERATOR[6]))
    q = multiply_add(square, splat(_DENOMINATOR[0]), splat(_DENOMINATOR[1]))
    q = multiply_add(square, q, splat(_DENOMINATOR[2]))
    q = multiply_add(square, q, splat(_DENOMINATOR[3]))
    return divide(multiply(x, p), q)


@compiled
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e^-x), with an absolute error of about 2^-24."""
    return multiply_add(tanh(multiply(x, splat(_HALF))), splat(_HALF), splat(_HALF))


@compiled
def store_factors(x: Any, is_short: bool, address: int) -> None:
    """Write sixteen factors of products, as float32 or rounded to bfloat16."""
    if is_short:
        store_rounded(x, address)
    else:
        store(x, address)


@compiled
def gru_units(
    products: int,
    offset: int,
    gate_bytes: int,
    state: int,
    _state_bytes: int,
    is_short: bool,
    factors: int,
    output: int,
    saved: int,
    saved_bytes: int,
) -> None:
    """Compute a time step.

    Args:
        products: four vectors; see `gru_tile`.
        offset: what is added to the projected inputs of the first gate.
        gate_bytes: from one gate's offset to the next.
        state: the carry; the last output is replaced by the new one.
        _state_bytes: from one array of the carry to the next.
        is_short: whether the factors of products are bfloat16.
        factors: where to write the output as a factor of the next products.
        output: where to write the output.
        saved: where to write what the backward pass needs; 0 for nowhere.
        saved_bytes: from one saved array to the next.

    """
    reset = sigmoid(add(load(products), load(offset)))
    update = sigmoid(add(load(products + VECTOR_BYTES), load(offset + gate_bytes)))
    of_candidate = add(load(products + 2 * VECTOR_BYTES), load(offset + 2 * gate_bytes))
    to_candidate = load(products + 3 * VECTOR_BYTES)
    candidate = tanh(multiply_add(reset, to_candidate, of_candidate))
    hidden = multiply_add(update, subtract(load(state), candidate), candidate)
    store(hidden, state)
    store(hidden, output)
    store_factors(hidden, is_short, factors)
    if saved != 0:
        store(reset, saved)
        store(update, saved + saved_bytes)
        store(candidate, saved + 2 * saved_bytes)
        store(to_candidate, saved + 3 * saved_bytes)


@compiled
def lstm_units(
    products: int,
    offset: int,
    gate_bytes: int,
    state: int,
    state_bytes: int,
    is_short: bool,
    factors: int,
    output: int,
    saved: int,
    saved_bytes: int,
) -> None:
    """Compute a time step; see `gru_units`. The carry is the output and the memory."""
    enter = sigmoid(add(load(products), load(offset)))
    of_forget = add(load(products + VECTOR_BYTES), load(offset + gate_bytes))
    keep = sigmoid(add(of_forget, splat(ONE)))
    candidate = tanh(add(load(products + 2 * VECTOR_BYTES), load(offset + 2 * gate_bytes)))
    leave = sigmoid(add(load(products + 3 * VECTOR_BYTES), load(offset + 3 * gate_bytes)))
    memory = multiply_add(keep, load(state + state_bytes), multiply(enter, candidate))
    bounded = tanh(memory)
    hidden = multiply(leave, bounded)
    store(memory, state + state_bytes)
    store(hidden, output)
    store_factors(hidden, is_short, factors)
    if saved != 0:
        store(enter, saved)
        store(keep, saved + saved_bytes)
        store(candidate, saved + 2 * saved_bytes)
        store(leave, saved + 3 * saved_bytes)
        store(bounded, saved + 4 * saved_bytes)
        store(memory, saved + 5 * saved_bytes)


@compiled
def _complement(x: Any) -> Any:
    """Return 1 - x."""
    return subtract(splat(ONE), x)


@compiled
def _store_gradient(
    gradient: Any, gate: int, is_short: bool, target: int, gate_bytes: int, sums: int, sum_bytes: int
) -> None:
    """Write a gate's gradient, and add it to the sums."""
    store_factors(gradient, is_short, target + gate * gate_bytes)
    place = sums + gate * sum_bytes
    store(add(load(place), gradient), place)


@compiled
def gru_gradients(
    gradient: int,
    state: int,
    _state_bytes: int,
    before: int,
    saved: int,
    saved_bytes: int,
    is_short: bool,
    of_input: int,
    of_product: int,
    gate_bytes: int,
    sums: int,
    sum_bytes: int,
) -> None:
    """Compute the gradients of the gates of a time step.

    Args:
        gradient: the gradient of the output, without its part through the next time step.
        state: the gradient of the carry through the next time step; it is replaced by that of the last carry, without
            its part through the product.
        _state_bytes: from one array of the carry to the next.
        before: the last output.
        saved: what `gru_units` saved.
        saved_bytes: from one saved array to the next.
        is_short: whether the gradients are written as bfloat16.
        of_input: where to write the gradient of the first gate's projected input.
        of_product: where to write that of its product with the recurrent kernel.
        gate_bytes: from one gate's gradient to the next.
        sums: the sum of the gradients of the first gate's projected input, which is added to.
        sum_bytes: from one gate's sum to the next.

    """
    reset, update = load(saved), load(saved + saved_bytes)
    candidate, to_candidate = load(saved + 2 * saved_bytes), load(saved + 3 * saved_bytes)
    slope = add(load(state), load(gradient))
    through_candidate = multiply(slope, _complement(update))
    of_candidate = multiply(through_candidate, _complement(multiply(candidate, candidate)))
    of_update = multiply(multiply(through_candidate, subtract(load(before), candidate)), update)
    of_reset = multiply(multiply(of_candidate, to_candidate), multiply(reset, _complement(reset)))
    _store_gradient(of_reset, 0, is_short, of_input, gate_bytes, sums, sum_bytes)
    _store_gradient(of_update, 1, is_short, of_input, gate_bytes, sums, sum_bytes)
    _store_gradient(of_candidate, 2, is_short, of_input, gate_bytes, sums, sum_bytes)
    store_factors(of_reset, is_short, of_product)
    store_factors(of_update, is_short, of_product + gate_bytes)
    store_factors(multiply(of_candidate, reset), is_short, of_product + 2 * gate_bytes)
    store(multiply(slope, update), state)


@compiled
def lstm_gradients(
    gradient: int,
    state: int,
    state_bytes: int,
    before: int,
    saved: int,
    saved_bytes: int,
    is_short: bool,
    of_input: int,
    _of_product: int,
    gate_bytes: int,
    sums: int,
    sum_bytes: int,
) -> None:
    """Compute the gradients of a time step; see `gru_gradients`. The gradients of input and product are the same."""
    enter, keep = load(saved), load(saved + saved_bytes)
    candidate, leave = load(saved + 2 * saved_bytes), load(saved + 3 * saved_bytes)
    bounded = load(saved + 4 * saved_bytes)
    slope = add(load(state), load(gradient))
    of_bounded = multiply(multiply(slope, leave), _complement(multiply(bounded, bounded)))
    of_memory = add(load(state + state_bytes), of_bounded)
    of_enter = multiply(multiply(of_memory, candidate), multiply(enter, _complement(enter)))
    of_keep = multiply(multiply(of_memory, load(before)), multiply(keep, _complement(keep)))
    of_candidate = multiply(multiply(of_memory, enter), _complement(multiply(candidate, candidate)))
    of_leave = multiply(multiply(slope, bounded), multiply(leave, _complement(leave)))
    _store_gradient(of_enter, 0, is_short, of_input, gate_bytes, sums, sum_bytes)
    _store_gradient(of_keep, 1, is_short, of_input, gate_bytes, sums, sum_bytes)
    _store_gradient(of_candidate, 2, is_short, of_input, gate_bytes, sums, sum_bytes)
    _store_gradient(of_leave, 3, is_short, of_input, gate_bytes, sums, sum_bytes)
    store(splat(Float(0)), state)
    store(multiply(of_memory, keep), state + state_bytes)
