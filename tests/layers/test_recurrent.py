"""The recurrent layers equal their formulas, written plainly in NumPy, and so do their gradients."""

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.kernels.plain_recurrence import GRU, LSTM, Cell
from mnist_hpo.layers.recurrent import recur

Array = NDArray[Any]
N_STEPS, N_EXAMPLES, N_INPUTS, WIDTH = 5, 3, 7, 4
CELLS = pytest.mark.parametrize("cell", [GRU, LSTM], ids=["gru", "lstm"])
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def exact(x: Array) -> Array:
    return x


def to_bf16(x: Array) -> Array:
    return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float64)


def gru(inputs: Array, kernel: Array, rounded: Any = exact) -> Array:
    """Return the outputs of a GRU, one row and one gate at a time."""
    width, outputs, hidden = len(kernel), [], np.zeros((inputs.shape[1], len(kernel)))
    for x in inputs:
        gates = rounded(hidden) @ rounded(kernel)
        reset = sigmoid(x[:, :width] + gates[:, :width])
        update = sigmoid(x[:, width : 2 * width] + gates[:, width : 2 * width])
        candidate = np.tanh(x[:, 2 * width :] + reset * gates[:, 2 * width :])
        hidden = (1 - update) * candidate + update * hidden
        outputs.append(hidden)
    return np.stack(outputs)


def lstm(inputs: Array, kernel: Array, rounded: Any = exact) -> Array:
    width, outputs = len(kernel), []
    hidden = memory = np.zeros((inputs.shape[1], width))
    for x in inputs:
        gates = x + rounded(hidden) @ rounded(kernel)
        enter, keep, candidate, leave = (gates[:, i * width : (i + 1) * width] for i in range(4))
        memory = sigmoid(keep + 1) * memory + sigmoid(enter) * np.tanh(candidate)
        hidden = sigmoid(leave) * np.tanh(memory)
        outputs.append(hidden)
    return np.stack(outputs)


def plainly(cell: Cell, arguments: list[Array], noise: Array, reverse: bool, rounded: Any = exact) -> Array:
    function = gru if cell is GRU else lstm
    x, input_kernel, bias, kernel = (argument.astype(np.float64) for argument in arguments)
    inputs = rounded(x) @ rounded(input_kernel) + bias + noise
    return function(inputs[::-1], kernel, rounded)[::-1] if reverse else function(inputs, kernel, rounded)


def problem(cell: Cell) -> tuple[list[Array], Array, Array]:
    """Return the arguments that are differentiated, the noise, and a slope of the outputs."""
    random, n_columns = np.random.default_rng(0), cell.n_gates * WIDTH
    arguments = (N_STEPS, N_EXAMPLES, N_INPUTS), (N_INPUTS, n_columns), (n_columns,), (WIDTH, n_columns)
    shapes = *arguments, (N_STEPS, N_EXAMPLES, n_columns), (N_STEPS, N_EXAMPLES, WIDTH)
    *drawn, noise, slope = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    drawn[1] /= 2
    return drawn, noise, slope


@CELLS
@DIRECTIONS
@pytest.mark.parametrize(("precision", "rounded", "tolerance"), [("fp32", exact, 1e-5), ("bf16", to_bf16, 3e-3)])
def test_the_outputs_equal_the_formula(
    cell: Cell, reverse: bool, precision: str, rounded: Any, tolerance: float
) -> None:
    arguments, noise, _ = problem(cell)
    for disturbance in (None, noise):
        found: Any = recur(*arguments, disturbance, cell, precision, reverse)
        expected = plainly(cell, arguments, np.zeros_like(noise) if disturbance is None else noise, reverse, rounded)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@CELLS
@DIRECTIONS
@pytest.mark.parametrize("has_noise", [False, True], ids=["quiet", "noisy"])
def test_the_gradients_equal_finite_differences(cell: Cell, reverse: bool, has_noise: bool) -> None:
    """Of the formula, in float64, for each input and each entry of the kernels and of the bias."""
    arguments, noise, slope = problem(cell)
    outputs: Any
    outputs, pull_back = jax.vjp(
        lambda *arguments: recur(*arguments, noise if has_noise else None, cell, "fp32", reverse), *arguments
    )
    added = noise if has_noise else np.zeros_like(noise)
    np.testing.assert_allclose(outputs, plainly(cell, arguments, added, reverse), rtol=1e-5, atol=1e-5)
    for which, found in enumerate(pull_back(slope)):
        expected = np.zeros(found.shape)
        for index in np.ndindex(found.shape):
            losses = []
            for change in (1e-5, -1e-5):
                moved = [argument.astype(np.float64) for argument in arguments]
                moved[which][index] += change
                losses.append((plainly(cell, moved, added, reverse) * slope).sum())
            expected[index] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@CELLS
@DIRECTIONS
def test_the_gradients_in_bf16_are_near_those_in_fp32(cell: Cell, reverse: bool) -> None:
    arguments, _, slope = problem(cell)

    def gradients(precision: str) -> Any:
        return jax.vjp(lambda *arguments: recur(*arguments, None, cell, precision, reverse), *arguments)[1](slope)

    for found, expected in zip(gradients("bf16"), gradients("fp32"), strict=True):
        assert found.dtype == np.float32
        assert not np.array_equal(found, expected)
        np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.02 * np.abs(expected).max())


@CELLS
def test_a_kernels_gradient_is_one_product_over_all_time_steps(cell: Cell) -> None:
    """A product in each step, over the batch alone, would be slower."""
    arguments, _, slope = problem(cell)

    def gradients(*arguments: Array) -> Any:
        return jax.vjp(lambda *arguments: recur(*arguments, None, cell, "fp32", False), *arguments)[1](slope)

    jaxpr = jax.make_jaxpr(gradients)(*arguments)
    products = [
        eqn.invars[0].aval.shape for eqn in jax.tree.leaves(list(jaxpr.eqns)) if eqn.primitive.name == "dot_general"
    ]
    of_x = (N_STEPS, N_EXAMPLES, cell.n_gates * WIDTH)
    assert products == [of_x, (N_INPUTS, N_STEPS * N_EXAMPLES), (WIDTH, N_STEPS * N_EXAMPLES)]
