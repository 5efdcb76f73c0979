"""Convolutions equal XLA's in the same precision, and their gradients have the form that is fast on CPUs."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from mnist_hpo.layers.convolution import conv_general_dilated, convolution


def array(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def rounded(x: Any, precision: str) -> NDArray[np.float32]:
    return np.asarray(x).astype(ml_dtypes.bfloat16 if precision == "bf16" else np.float32).astype(np.float32)


@pytest.mark.parametrize("batch_size", [3, 40], ids=["by XLA", "by kernels"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kernel_size", "padding"),
    [((3, 3), ((1, 1), (1, 1))), ((5, 2), ((2, 1), (0, 0))), ((4, 4), ((1, 2), (1, 2))), ((1, 1), ((0, 0), (0, 0)))],
)
def test_factors_are_rounded_but_sums_are_not(
    kernel_size: tuple[int, int], padding: Any, precision: str, batch_size: int
) -> None:
    x, kernel = array(0, batch_size, 8, 7, 2), array(1, *kernel_size, 2, 4)

    def exact(x: Any, kernel: Any) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    expected, pull_back_exactly = jax.vjp(exact, rounded(x, precision), rounded(kernel, precision))
    found, pull_back = jax.vjp(lambda x, kernel: convolution(x, kernel, padding, precision), x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    slope = array(2, *expected.shape)
    exact_gradients = pull_back_exactly(jnp.asarray(rounded(slope, precision)))
    for gradient, exactly in zip(pull_back(slope), exact_gradients, strict=True):
        np.testing.assert_allclose(gradient, exactly, rtol=1e-4, atol=1e-4)


def test_every_convolution_in_a_loop_has_the_form_that_is_fast_on_cpus() -> None:
    """XLA's CPU backend compiles any other form to naive loops."""
    xs, kernel = array(0, 2, 3, 8, 8, 2), array(1, 3, 3, 2, 4)

    def loss(x: Any, kernel: Any) -> Any:
        return (convolution(x, kernel, ((1, 1), (1, 1)), "fp32") ** 2).sum()

    def gradients(xs: Any, kernel: Any) -> Any:
        def step(kernel: Any, x: Any) -> tuple[Any, Any]:
            x_gradient, kernel_gradient = jax.grad(loss, (0, 1))(x, kernel)
            return kernel - kernel_gradient, x_gradient

        return jax.lax.scan(step, kernel, xs)

    program = jax.jit(gradients).lower(xs, kernel).compile().as_text()
    forms = re.findall(r" convolution\(.*dim_labels=([^, ]+)", program)
    assert len(forms) == 3
    assert set(forms) == {"b01f_01io->b01f"}


@pytest.mark.parametrize(
    "options",
    [{"strides": 2}, {"kernel_dilation": 2}, {"feature_group_count": 2}],
    ids=lambda options: next(iter(options)),
)
def test_unsupported_options_are_refused(options: dict[str, int]) -> None:
    layer = nnx.Conv(2, 4, (3, 3), conv_general_dilated=conv_general_dilated("fp32"), rngs=nnx.Rngs(0), **options)
    with pytest.raises(ValueError, match="without strides, dilation and groups"):
        layer(array(0, 1, 8, 8, 2))


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
def test_a_flax_layer_can_use_it(padding: str | int) -> None:
    layer = nnx.Conv(2, 4, (3, 3), padding=padding, rngs=nnx.Rngs(0))
    expected = layer(array(0, 2, 6, 5, 2))
    layer.conv_general_dilated = conv_general_dilated("fp32")
    np.testing.assert_allclose(layer(array(0, 2, 6, 5, 2)), expected, rtol=1e-5, atol=1e-5)
