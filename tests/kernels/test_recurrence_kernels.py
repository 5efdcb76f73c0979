"""The kernels of recurrent layers equal their references for any number of examples, inputs and units."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.kernels.call_frame import (
    address_of,
    data,
    handle_registration,
    input_buffer,
    output_buffer,
    pointer_to,
    size,
)
from mnist_hpo.kernels.native import references_only, register_kernel
from mnist_hpo.kernels.plain_recurrence import GRU, LSTM, Cell
from mnist_hpo.kernels.recurrence import EXAMPLES, recurrence, recurrence_outputs
from mnist_hpo.kernels.recurrence_cells import sigmoid, tanh
from mnist_hpo.kernels.recurrence_gradient import recurrence_gradient
from mnist_hpo.kernels.vectors import VECTOR_BYTES, load, store

Array = NDArray[Any]
N_STEPS = 4
CELLS = pytest.mark.parametrize("cell", [GRU, LSTM], ids=["gru", "lstm"])
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
SHAPES = [(1, 1, 1), (5, 7, 20), (EXAMPLES + 5, 3, 70)]
"""Examples, inputs and units."""


def draw(cell: Cell, n_examples: int, n_inputs: int, n_units: int, dtype: Any, *, noisy: bool = False) -> list[Any]:
    """Return the arguments of a forward pass."""
    random, n_columns = np.random.default_rng(n_examples), cell.n_gates * n_units
    x, input_kernel, kernel = (
        jnp.asarray(random.standard_normal(shape, np.float32) / np.sqrt(n_terms)).astype(dtype)
        for shape, n_terms in (
            ((N_STEPS, n_examples, n_inputs), 1),
            ((n_inputs, n_columns), n_inputs),
            ((n_units, n_columns), n_units),
        )
    )
    shape = (N_STEPS, n_examples, n_columns) if noisy else (1, 1, n_columns)
    return [x, input_kernel, jnp.asarray(random.standard_normal(shape, np.float32)), kernel]


def results(cell: Cell, arguments: list[Any], reverse: bool) -> list[Array]:
    """Return the outputs, what is saved, and the gradients for a slope of the outputs."""

    def run(*arguments: Any) -> tuple[Any, ...]:
        outputs, saved = recurrence(*arguments, cell=cell, reverse=reverse)
        slope = jnp.cos(jnp.arange(outputs.size, dtype=jnp.float32)).reshape(outputs.shape)
        return outputs, saved, *recurrence_gradient(slope, outputs, saved, arguments[3], cell=cell, reverse=reverse)

    return [np.asarray(array, np.float32) for array in jax.jit(run)(*arguments)]


def outputs_of(cell: Cell, arguments: list[Any], reverse: bool) -> Array:
    """Return the outputs, computed without what the backward pass needs."""
    return np.asarray(jax.jit(lambda *a: recurrence_outputs(*a, cell=cell, reverse=reverse))(*arguments))


@CELLS
@DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_kernels_equal_their_references(
    cell: Cell, dtype: Any, shape: tuple[int, int, int], reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    arguments = draw(cell, *shape, dtype, noisy=reverse)
    found = results(cell, arguments, reverse)
    with references_only():
        expected = results(cell, arguments, reverse)
    # A difference in the last bit before rounding to bfloat16 can be one in the last bit after it.
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())
    np.testing.assert_array_equal(outputs_of(cell, arguments, reverse), found[0])


@CELLS
@DTYPES
def test_an_example_has_the_same_bits_in_any_batch(cell: Cell, dtype: Any) -> None:
    arguments = draw(cell, EXAMPLES + 9, 5, 24, dtype)
    together = outputs_of(cell, arguments, reverse=False)
    for first, last in ((0, 1), (4, 11), (EXAMPLES - 1, EXAMPLES + 9)):
        part = [arguments[0][:, first:last], *arguments[1:]]
        alone = outputs_of(cell, part, reverse=False)
        np.testing.assert_array_equal(alone, together[:, first:last])


@CELLS
@DTYPES
def test_a_number_that_is_not_finite_stays_visible_in_its_example(cell: Cell, dtype: Any) -> None:
    """Otherwise a diverged training would go unnoticed."""
    arguments = draw(cell, 8, 5, 20, dtype)
    arguments[0] = arguments[0].at[1, 3, 2].set(np.nan)
    found, _, of_inputs, *_ = results(cell, arguments, False)
    assert np.isnan(found[1:, 3]).all()
    assert np.isnan(of_inputs[:, 3]).any()
    assert np.isfinite(found[0]).all()
    for array in (found, of_inputs):
        assert np.isfinite(np.delete(array, 3, axis=1)).all()


def _squash(call: Any) -> Any:
    """Input: f32[N], of whole vectors. Outputs: its hyperbolic tangent and its sigmoid."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    x, of_tanh, of_sigmoid = data(input_buffer(frame, 0)), data(output_buffer(frame, 0)), data(output_buffer(frame, 1))
    for place in range(0, 4 * size(input_buffer(frame, 0)), VECTOR_BYTES):
        store(tanh(load(x + place)), of_tanh + place)
        store(sigmoid(load(x + place)), of_sigmoid + place)
    return pointer_to(0)


def test_tanh_and_sigmoid_are_accurate_and_bounded() -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e30, 88.0, -88.0, 7.9, -7.9, 8.0, -8.0, 1e-4, -1e-4, 100.0]
    x = np.concatenate([np.linspace(-20, 20, 2**16), np.linspace(-1, 1, 2**16), special]).astype(np.float32)
    target = register_kernel("squash", _squash)
    shape = jax.ShapeDtypeStruct(x.shape, np.float32)
    of_tanh, of_sigmoid = map(np.asarray, jax.ffi.ffi_call(target, [shape, shape])(x))
    with np.errstate(over="ignore"):
        exact = np.tanh(x.astype(np.float64)), 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(of_tanh, exact[0], rtol=4e-7, atol=0)
    np.testing.assert_allclose(of_sigmoid, exact[1], rtol=0, atol=2e-7)
    assert np.nanmax(np.abs(of_tanh)) <= 1
    assert 0 <= np.nanmin(of_sigmoid) <= np.nanmax(of_sigmoid) <= 1


_OTHER_CPU = """
import sys
import llvmlite.binding as llvm
features = llvm.get_host_cpu_features()
for name in features:
    if name.startswith("avx512"):
        features[name] = False
llvm.get_host_cpu_features = lambda: features
sys.path[:0] = {path!r}
import pytest
from mnist_hpo.kernels import vectors
assert not vectors.has_feature("avx512bf16")
import test_recurrence_kernels as tests
for cell in (tests.GRU, tests.LSTM):
    for dtype in (tests.jnp.float32, tests.jnp.bfloat16):
        with pytest.MonkeyPatch.context() as patch:
            tests.test_the_kernels_equal_their_references(cell, dtype, tests.SHAPES[2], False, patch)
print("passed")
"""


@pytest.mark.slow
def test_cpus_without_512_bit_vectors_compute_the_same() -> None:
    path = [str(entry) for entry in sys.path]
    program = _OTHER_CPU.format(path=[__file__.rpartition("/")[0], *path])
    environment = {"JAX_PLATFORMS": "cpu", "MNIST_HPO_KERNELS": "on", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "passed", done.stderr
