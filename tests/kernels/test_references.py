"""Each kernel agrees with its pure-JAX reference, and the reference is used where the kernel cannot be."""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_hpo.kernels import fused_adam
from mnist_hpo.kernels.blocked_images import from_blocks, to_blocks
from mnist_hpo.kernels.call_frame import (
    BUFFER_BYTES,
    FRAME_BYTES,
    INTERFACE_VERSION,
    VALUES_BYTES,
    address_of,
    array,
    data,
    handle_registration,
    input_buffer,
    load_word,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compile_handler
from mnist_hpo.kernels.convolution_gradient import convolution_gradient
from mnist_hpo.kernels.convolve import convolve
from mnist_hpo.kernels.gather_pixels import gather_pixels
from mnist_hpo.kernels.native import references_only, register_kernel
from mnist_hpo.kernels.normalise import Pool, normalise, pooled_shape
from mnist_hpo.kernels.normalise_gradient import normalise_gradient, normalise_sums
from mnist_hpo.kernels.plain_convolution import outer_padding
from mnist_hpo.kernels.plain_recurrence import GRU, LSTM, Cell
from mnist_hpo.kernels.recurrence import recurrence, recurrence_outputs
from mnist_hpo.kernels.recurrence_gradient import recurrence_gradient
from mnist_hpo.kernels.resample import resample
from mnist_hpo.kernels.round_to_bf16 import round_to_bf16
from mnist_hpo.kernels.softmax_loss import softmax_loss
from mnist_hpo.kernels.transpose import transpose

B, F, C = 5, 19, 10


class Case(NamedTuple):
    """A kernel's public function, its arguments, and the allowed relative error against its reference."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    relative_error: float = 0.0


def make_cases(seed: int) -> dict[str, Case]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal(shape, dtype=np.float32))

    images = jnp.asarray(rng.integers(0, 256, (40, F), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, C, 40, dtype=np.uint8))
    rows = jnp.asarray(rng.integers(0, 40, B, dtype=np.int32))
    weights = [normal(F, C), normal(C)]
    state = fused_adam.AdamState([normal(F, C), normal(C)], [abs(normal(F, C)), abs(normal(C))], jnp.float32(3))

    def adam(weights: Any, state: Any, slopes: Any) -> Any:
        rounded = [weights[0].astype(jnp.bfloat16), None]
        options = {"learning_rate": 0.01, "l1": 1e-3, "l2": 1e-2}
        return [
            fused_adam.update(weights, state, slopes, rounded, **options, decoupled=decoupled)
            for decoupled in (False, True)
        ]

    maps = 0.5 * normal(B, 2, 3) + jnp.array([[[1, 0, 0], [0, 1, 0]]], jnp.float32)

    small = ((1, 0), (2, 1))
    x, kernel, slopes = normal(B, 6, 7, 3), normal(2, 3, 3, 5), normal(B, 6, 8, 5)
    factors = normal(4, 3)

    def convolved(images: Any, kernel: Any, dtype: Any) -> Any:
        return convolve(to_blocks(images, dtype), kernel, small)

    def input_gradient(slopes: Any, kernel: Any) -> Any:
        padding = outer_padding((2, 3), small)
        return convolve(to_blocks(slopes, jnp.float32), kernel, padding, transposed=True)

    def normalised(images: Any, factors: Any, pool: Pool, dtype: Any) -> Any:
        y = to_blocks(images, jnp.float32)
        result = normalise(y, factors[:2], B, pool, jnp.float32 if pool == "mean" else dtype)
        slopes = to_blocks(images[:, : pooled_shape(6, 7, pool)[0], : pooled_shape(6, 7, pool)[1]], jnp.float32)
        sums = normalise_sums(y, slopes, factors, pool)
        return result, sums, normalise_gradient(y, slopes, factors, B, pool, dtype)

    def sequences(cell: Cell, dtype: Any, reverse: bool) -> Case:
        n_columns = cell.n_gates * 20
        slopes, saved = normal(3, B, 20), jax.nn.sigmoid(normal(3, cell.n_saved, B, 20))

        def run(x: Any, input_kernel: Any, offset: Any, kernel: Any, outputs: Any) -> Any:
            factors = x.astype(dtype), input_kernel.astype(dtype), offset, kernel.astype(dtype)
            gradient = recurrence_gradient(slopes, outputs, saved, factors[3], cell=cell, reverse=reverse)
            alone = recurrence_outputs(*factors, cell=cell, reverse=reverse)
            return recurrence(*factors, cell=cell, reverse=reverse), alone, gradient

        offset = normal(3, B, n_columns) if reverse else normal(1, 1, n_columns)
        factors = normal(3, B, 7), normal(7, n_columns) / 3, offset, normal(20, n_columns) / 5, normal(3, B, 20)
        return Case(run, factors, 1e-4 if dtype == jnp.float32 else 5e-3)

    def loss_and_gradient(logits: Any, labels: Any, rows: Any) -> Any:
        return jax.value_and_grad(softmax_loss)(logits, labels, rows, 0.1)

    return {
        "gather_pixels to float32": Case(gather_pixels, (images, rows)),
        "gather_pixels to bfloat16": Case(lambda *a: gather_pixels(*a, jnp.bfloat16), (images, rows)),
        "round_to_bf16": Case(round_to_bf16, (normal(B, F) * 10.0 ** rng.integers(-44, 38, (B, F)),)),
        "softmax_loss": Case(loss_and_gradient, (3 * normal(B, C), labels, rows), 2e-6),
        "transpose of float32": Case(transpose, (normal(B, F),)),
        "transpose of bfloat16": Case(transpose, (normal(B, F).astype(jnp.bfloat16),)),
        "resample": Case(resample, (normal(B, 7, 9, 2), maps), 2e-5),
        "resample with shifts": Case(resample, (normal(B, 7, 9, 2), maps, 3 * normal(B, 2, 7, 9)), 2e-5),
        "blocks of float32": Case(lambda x: from_blocks(to_blocks(x, jnp.float32), B), (x,)),
        "blocks of bfloat16": Case(lambda x: to_blocks(x, jnp.bfloat16), (x,)),
        "convolve float32": Case(lambda *a: convolved(*a, jnp.float32), (x, kernel), 1e-4),
        "convolve bfloat16": Case(lambda *a: convolved(*a, jnp.bfloat16), (x, kernel), 1e-4),
        "convolve transposed": Case(input_gradient, (slopes, kernel), 1e-4),
        "convolution_gradient float32": Case(
            lambda x, g: convolution_gradient(to_blocks(x, jnp.float32), to_blocks(g, jnp.float32), (2, 3), small),
            (x, slopes),
            1e-4,
        ),
        "convolution_gradient bfloat16": Case(
            lambda x, g: convolution_gradient(to_blocks(x, jnp.bfloat16), to_blocks(g, jnp.bfloat16), (2, 3), small),
            (x, slopes),
            1e-4,
        ),
        "normalise float32": Case(lambda *a: normalised(*a, "none", jnp.float32), (x, factors), 1e-4),
        "normalise bfloat16": Case(lambda *a: normalised(*a, "none", jnp.bfloat16), (x, factors), 1e-4),
        "normalise with maxima": Case(lambda *a: normalised(*a, "max", jnp.float32), (x, factors), 1e-4),
        "normalise with means": Case(lambda *a: normalised(*a, "mean", jnp.float32), (x, factors), 1e-4),
        "gru float32": sequences(GRU, jnp.float32, reverse=False),
        "gru bfloat16": sequences(GRU, jnp.bfloat16, reverse=True),
        "lstm float32": sequences(LSTM, jnp.float32, reverse=True),
        "lstm bfloat16": sequences(LSTM, jnp.bfloat16, reverse=False),
        "fused_adam": Case(adam, (weights, state, [normal(F, C), normal(C)]), 2e-5),
    }


NAMES = tuple(make_cases(0))


def assert_close(ours: Any, theirs: Any, relative_error: float) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        if one.dtype == jnp.bfloat16 and relative_error:
            relative_error = 2**-8  # A difference in the last bit before rounding can remain one after it.
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=relative_error, atol=relative_error / 10
        )


def lowered(function: Callable[..., Any], *arguments: Any) -> str:
    return jax.jit(function).lower(*arguments).as_text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_kernel_agrees_with_its_reference(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    function, arguments, relative_error = make_cases(seed)[name]
    assert "mnist_hpo." in lowered(function, *arguments)
    ours = jax.jit(function)(*arguments)
    with references_only():
        theirs = jax.jit(lambda *a: function(*a))(*arguments)
    assert_close(ours, theirs, relative_error)


@pytest.mark.parametrize("name", NAMES)
def test_under_vmap_the_reference_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    cases = [make_cases(seed)[name] for seed in range(3)]
    function, _, relative_error = cases[0]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(case.arguments for case in cases))
    batched = jax.vmap(lambda *arguments: function(*arguments))
    assert "mnist_hpo." not in lowered(batched, *batch)
    results = jax.jit(batched)(*batch)
    for index, case in enumerate(cases):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], results)
        assert_close(one, jax.jit(function)(*case.arguments), relative_error)


def test_under_vmap_arguments_may_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, several trainings read different batches from one array of images."""
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    (images, rows), other = make_cases(0)["gather_pixels to float32"].arguments, jnp.arange(B, dtype=jnp.int32)
    both = jax.vmap(gather_pixels, in_axes=(None, 0))(images, jnp.stack([rows, other]))
    np.testing.assert_array_equal(both, [gather_pixels(images, rows), gather_pixels(images, other)])


@pytest.mark.parametrize("name", NAMES)
def test_on_other_platforms_the_reference_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, arguments, _ = make_cases(0)[name]
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    traced = jax.jit(lambda *a: function(*a)).trace(*arguments)
    assert "mnist_hpo." not in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_program_calls_no_kernel(name: str) -> None:
    function, arguments, _ = make_cases(0)[name]
    with references_only():
        exported = jax.export.export(jax.jit(lambda *a: function(*a)), platforms=["cpu", "cuda"])(*arguments)
    assert "mnist_hpo." not in exported.mlir_module()


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_variable_disables_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, arguments, _ = make_cases(0)[name]
    monkeypatch.setenv("MNIST_HPO_KERNELS", "off")
    assert "mnist_hpo." not in lowered(lambda *a: function(*a), *arguments)


def _register_only(call: Any) -> Any:
    handle_registration(address_of(call))
    return pointer_to(0)


@pytest.mark.parametrize(("frame_bytes", "major"), [(FRAME_BYTES, INTERFACE_VERSION[0]), (FRAME_BYTES + 8, -1)])
def test_a_handler_reports_its_version_only_if_xlas_call_frame_has_the_expected_size(
    frame_bytes: int, major: int
) -> None:
    handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(compile_handler(_register_only))
    metadata = np.zeros(6, np.int64)
    extension = np.array([32, 1, 0, metadata.ctypes.data], np.int64)
    frame = np.array([frame_bytes, extension.ctypes.data, *[0] * 19], np.int64)
    assert handler(frame.ctypes.data) is None
    assert metadata.view(np.int32)[6:8].tolist() == [major, INTERFACE_VERSION[1]]


def _report_sizes(call: Any) -> Any:
    """Output the sizes in bytes that XLA states for the frame, its inputs, its outputs, and an input's buffer."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    sizes = array(data(output_buffer(frame, 0)), 4, np.int32)
    sizes[0] = load_word(frame, 0)
    sizes[1] = load_word(frame, 5)
    sizes[2] = load_word(frame, 10)
    sizes[3] = load_word(input_buffer(frame, 0), 0)
    return pointer_to(0)


def test_xlas_structs_have_the_expected_sizes() -> None:
    target = register_kernel("report_sizes", _report_sizes)
    sizes = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((4,), jnp.int32))(jnp.float32(0))
    assert sizes.tolist() == [FRAME_BYTES, VALUES_BYTES, VALUES_BYTES, BUFFER_BYTES]
