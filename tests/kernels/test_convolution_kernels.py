"""The kernels for convolutions of blocked images: many shapes, equal bits in any memory, and other CPUs."""

import ctypes
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.kernels import convolution_gradient as kernel_gradients
from mnist_hpo.kernels import convolve as convolutions
from mnist_hpo.kernels.blocked_images import from_blocks, images_of, to_blocks
from mnist_hpo.kernels.call_frame import FRAME_BYTES
from mnist_hpo.kernels.compiled import compile_handler
from mnist_hpo.kernels.convolution_gradient import convolution_gradient
from mnist_hpo.kernels.convolve import convolve
from mnist_hpo.kernels.plain_convolution import Padding, outer_padding

DTYPES = [jnp.float32, jnp.bfloat16]


class Shape(NamedTuple):
    """A convolution's shape."""

    n: int
    height: int
    width: int
    n_in: int
    n_out: int
    kernel_size: tuple[int, int]
    padding: Padding


SAME = ((1, 1), (1, 1))
SHAPES = [
    Shape(32, 8, 8, 8, 8, (3, 3), SAME),
    Shape(1, 5, 4, 1, 1, (1, 1), ((0, 0), (0, 0))),
    Shape(33, 4, 7, 3, 9, (3, 3), SAME),
    Shape(40, 6, 5, 2, 17, (5, 2), ((2, 1), (0, 0))),
    Shape(7, 3, 3, 5, 4, (3, 3), ((0, 0), (0, 0))),
    Shape(64, 7, 10, 4, 8, (4, 4), ((3, 0), (5, 2))),
    Shape(20, 9, 8, 3, 6, (2, 3), ((-1, -2), (-2, -1))),
    Shape(32, 1, 1, 6, 24, (3, 3), SAME),
]


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def rounded(x: jax.Array, dtype: Any) -> jax.Array:
    return x.astype(dtype).astype(jnp.float32)


def exact(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arguments(shape: Shape) -> tuple[jax.Array, jax.Array]:
    return normal(0, shape.n, shape.height, shape.width, shape.n_in), normal(1, *shape.kernel_size, *shape[3:5])


@pytest.fixture(autouse=True)
def use_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_and_gradients_are_those_of_jax(shape: Shape, dtype: Any) -> None:
    x, kernel = arguments(shape)
    expected, pull_back = jax.vjp(lambda *a: exact(*a, shape.padding), rounded(x, dtype), rounded(kernel, dtype))
    slopes = normal(2, *expected.shape)
    x_gradient, kernel_gradient = pull_back(rounded(slopes, dtype))

    blocks, slope_blocks = to_blocks(x, dtype), to_blocks(slopes, dtype)
    y, sums = convolve(blocks, kernel, shape.padding)
    found = from_blocks(y, shape.n)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sums[0], expected.sum((0, 1, 2)), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(sums[1], (expected**2).sum((0, 1, 2)), rtol=1e-4)

    outer = outer_padding(shape.kernel_size, shape.padding)
    by_input = from_blocks(convolve(slope_blocks, kernel, outer, transposed=True)[0], shape.n)
    np.testing.assert_allclose(by_input, x_gradient, rtol=1e-4, atol=1e-4)
    by_kernel = convolution_gradient(blocks, slope_blocks, shape.kernel_size, shape.padding)
    np.testing.assert_allclose(by_kernel, kernel_gradient, rtol=1e-4, atol=1e-3)


def test_many_channels_are_summed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, slopes = to_blocks(normal(0, 32, 5, 5, 12), jnp.bfloat16), to_blocks(normal(1, 32, 5, 5, 43), jnp.bfloat16)
    whole = convolution_gradient(x, slopes, (3, 3), SAME)
    monkeypatch.setattr(kernel_gradients, "_SUMS_BYTES", 350_000)
    monkeypatch.setattr(kernel_gradients, "_BAND_BYTES", 10_000)
    np.testing.assert_allclose(convolution_gradient(x, slopes, (3, 3), SAME), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 3, 1), (32, 2, 4, 1), (70, 3, 5, 7)])
def test_blocks_hold_every_example_and_zeros(shape: tuple[int, ...]) -> None:
    images = normal(0, *shape)
    for dtype in DTYPES:
        found = images_of(to_blocks(images, dtype))
        assert np.array_equal(found[: len(images)], rounded(images, dtype))
        assert not np.asarray(found[len(images) :]).any()
    assert np.array_equal(from_blocks(to_blocks(images, jnp.float32), len(images)), images)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_the_results_that_depend_on_them(bad: float, dtype: Any) -> None:
    x = normal(0, 34, 6, 6, 3).at[33, 2, 3, 1].set(bad)
    y = from_blocks(convolve(to_blocks(x, dtype), normal(1, 3, 3, 3, 9), SAME)[0], 34)
    is_bad = ~np.isfinite(np.asarray(y))
    assert is_bad[33, 1:4, 2:5].all()
    assert is_bad.sum() == 9 * 9
    assert np.isnan(y[33, 2, 3]).all() == np.isnan(bad)
    sums = convolution_gradient(to_blocks(x, dtype), to_blocks(normal(2, 34, 6, 6, 9), dtype), (3, 3), SAME)
    is_bad = ~np.isfinite(np.asarray(sums))
    assert is_bad[:, :, 1].all()
    assert is_bad.sum() == 9 * 9


class _Memory:
    """Memory at an address with a remainder by 64, filled with garbage."""

    def __init__(self, n_bytes: int, remainder: int) -> None:
        self._bytes = np.full(n_bytes + 128, 0x7B, np.uint8)
        start = -self._bytes.ctypes.data % 64 + remainder
        self.bytes = self._bytes[start : start + n_bytes]


def _call(handler: Any, inputs: list[NDArray[Any]], outputs: list[Any], remainder: int) -> list[bytes]:
    """Call a handler as XLA does, with buffers whose addresses have a remainder; return the outputs' bytes."""
    keep: list[Any] = []

    def buffers(arrays: list[Any]) -> tuple[int, list[_Memory]]:
        memories, pointers = [], np.zeros(len(arrays), np.int64)
        for index, one in enumerate(arrays):
            n_bytes = int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize
            memories.append(memory := _Memory(n_bytes, remainder))
            if isinstance(one, np.ndarray):
                memory.bytes[:] = one.reshape(-1).view(np.uint8)
            dimensions = np.array(one.shape, np.int64)
            dtype = 16 if one.dtype == jnp.bfloat16 else 11
            address = memory.bytes.ctypes.data
            struct = np.array([48, 0, dtype, address, len(one.shape), dimensions.ctypes.data], np.int64)
            pointers[index] = struct.ctypes.data
            keep.extend([dimensions, struct, pointers])
        return pointers.ctypes.data, memories

    frame = np.zeros(FRAME_BYTES // 8, np.int64)
    (frame[9], kept), (frame[14], memories) = buffers(inputs), buffers(outputs)
    frame[0], frame[7], frame[12] = FRAME_BYTES, len(inputs), len(outputs)
    ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(compile_handler(handler))(frame.ctypes.data)
    assert len(kept) == len(inputs)
    return [memory.bytes.tobytes() for memory in memories]


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_same_bits_in_any_memory(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the alignment nor what the memory held before changes a bit."""
    calls: list[tuple[list[NDArray[Any]], list[Any]]] = []

    def record(_target: str, outputs: Any) -> Any:
        def call(*inputs: Any) -> Any:
            shapes = outputs if isinstance(outputs, list) else [outputs]
            calls.append(([np.asarray(one) for one in inputs], shapes))
            return [jnp.zeros(one.shape, one.dtype) for one in shapes]

        return call

    x, kernel, slopes = to_blocks(normal(0, 33, 5, 7, 3), dtype), normal(1, 3, 3, 3, 9), normal(2, 33, 5, 7, 9)
    blocks = to_blocks(slopes, dtype)
    monkeypatch.setattr(jax.ffi, "ffi_call", record)
    convolutions._kernel(x, kernel, SAME, transposed=False)
    kernel_gradients._kernel(x, blocks, (3, 3), SAME)
    is_short = dtype == jnp.bfloat16
    handlers = [
        convolutions._handler_bf16 if is_short else convolutions._handler_f32,
        kernel_gradients._handler_bf16 if is_short else kernel_gradients._handler_f32,
    ]
    for handler, (inputs, outputs) in zip(handlers, calls, strict=True):
        found = [_call(handler, inputs, outputs, remainder)[:-1] for remainder in (0, 0, 4, 36)]
        assert all(one == found[0] for one in found)
        assert any(found[0][0])


_OTHER_CPU = """
import sys
import llvmlite.binding as llvm
features = llvm.get_host_cpu_features()
for name in features:
    if name.startswith("avx512"):
        features[name] = False
llvm.get_host_cpu_features = lambda: features
sys.path[:0] = {path!r}
import numpy as np
from mnist_hpo.kernels import vectors
assert not vectors.has_feature("avx512bf16")
import test_convolution_kernels as tests
for shape in tests.SHAPES[:4]:
    for dtype in tests.DTYPES:
        tests.test_results_and_gradients_are_those_of_jax(shape, dtype)
print("passed")
"""


@pytest.mark.slow
def test_cpus_without_512_bit_vectors_compute_the_same() -> None:
    path = [str(entry) for entry in sys.path]
    program = _OTHER_CPU.format(path=[__file__.rpartition("/")[0], *path])
    environment = {"JAX_PLATFORMS": "cpu", "MNIST_HPO_KERNELS": "on", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "passed", done.stderr
