"""The recurrent layers equal their formulas, written plainly in NumPy, and so do their gradients."""

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.layers.recurrent import GRU, LSTM, Cell, recur

Array = NDArray[Any]
N_STEPS, N_EXAMPLES, WIDTH = 5, 3, 4
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


def plainly(cell: Cell, inputs: Array, kernel: Array, reverse: bool, rounded: Any = exact) -> Array:
    function = gru if cell is GRU else lstm
    inputs, kernel = inputs.astype(np.float64), kernel.astype(np.float64)
    return function(inputs[::-1], kernel, rounded)[::-1] if reverse else function(inputs, kernel, rounded)


def problem(cell: Cell) -> tuple[Array, Array, Array]:
    """Return inputs, a recurrent kernel, and a slope of the outputs."""
    random, n_columns = np.random.default_rng(0), cell.n_gates * WIDTH
    shapes = (N_STEPS, N_EXAMPLES, n_columns), (WIDTH, n_columns), (N_STEPS, N_EXAMPLES, WIDTH)
    inputs, kernel, slope = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return inputs, kernel, slope


@CELLS
@DIRECTIONS
@pytest.mark.parametrize(("precision", "rounded", "tolerance"), [("fp32", exact, 1e-5), ("bf16", to_bf16, 3e-3)])
def test_the_outputs_equal_the_formula(
    cell: Cell, reverse: bool, precision: str, rounded: Any, tolerance: float
) -> None:
    inputs, kernel, _ = problem(cell)
    found = recur(inputs, kernel, cell, precision, reverse)
    expected = plainly(cell, inputs, kernel, reverse, rounded)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@CELLS
@DIRECTIONS
def test_the_gradients_equal_finite_differences(cell: Cell, reverse: bool) -> None:
    """Of the formula, in float64, for each input and each entry of the kernel."""
    inputs, kernel, slope = problem(cell)
    _, pull_back = jax.vjp(lambda inputs, kernel: recur(inputs, kernel, cell, "fp32", reverse), inputs, kernel)
    for which, found in enumerate(pull_back(slope)):
        expected = np.zeros(found.shape)
        for index in np.ndindex(found.shape):
            losses = []
            for change in (1e-5, -1e-5):
                moved = [inputs.astype(np.float64), kernel.astype(np.float64)]
                moved[which][index] += change
                losses.append((plainly(cell, moved[0], moved[1], reverse) * slope).sum())
            expected[index] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@CELLS
@DIRECTIONS
def test_the_gradients_in_bf16_are_near_those_in_fp32(cell: Cell, reverse: bool) -> None:
    inputs, kernel, slope = problem(cell)

    def gradients(precision: str) -> Any:
        return jax.vjp(lambda *factors: recur(*factors, cell, precision, reverse), inputs, kernel)[1](slope)

    for found, expected in zip(gradients("bf16"), gradients("fp32"), strict=True):
        assert found.dtype == np.float32
        assert not np.array_equal(found, expected)
        np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.15)


@CELLS
def test_the_kernels_gradient_is_one_product_over_all_time_steps(cell: Cell) -> None:
    """A product in each step, over the batch alone, would be slower."""
    inputs, kernel, slope = problem(cell)

    def gradients(inputs: Array, kernel: Array) -> Any:
        return jax.vjp(lambda inputs, kernel: recur(inputs, kernel, cell, "fp32", False), inputs, kernel)[1](slope)

    jaxpr = jax.make_jaxpr(gradients)(inputs, kernel)
    products = [
        eqn.invars[0].aval.shape for eqn in jax.tree.leaves(list(jaxpr.eqns)) if eqn.primitive.name == "dot_general"
    ]
    assert products == [(WIDTH, N_STEPS * N_EXAMPLES)]
