"""Matrix products with factors rounded to bfloat16, and their gradients."""

import re
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.layers.mixed_precision import dot_general, matmul


def matrix(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def rounded(x: Any, precision: str) -> NDArray[np.float64]:
    factor = ml_dtypes.bfloat16 if precision == "bf16" else np.float32
    return np.asarray(x).astype(factor).astype(np.float64)


@pytest.mark.parametrize("kernels", ["on", "off"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("n_rows", "n_in", "n_out"), [(1, 3, 2), (32, 784, 64), (33, 17, 10), (128, 256, 256)])
def test_factors_are_rounded_but_sums_are_not(
    n_rows: int, n_in: int, n_out: int, precision: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", kernels)
    x, kernel, slope = matrix(0, n_rows, n_in), matrix(1, n_in, n_out), matrix(2, n_rows, n_out)

    def both(x: Any, kernel: Any, slope: Any) -> Any:
        product, pull_back = jax.vjp(lambda x, kernel: matmul(x, kernel, precision), x, kernel)
        return product, *pull_back(slope)

    product, x_gradient, kernel_gradient = jax.jit(both)(x, kernel, slope)
    assert product.dtype == x_gradient.dtype == kernel_gradient.dtype == np.float32
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(product, rounded(x, precision) @ rounded(kernel, precision), **tolerance)
    np.testing.assert_allclose(x_gradient, rounded(slope, precision) @ rounded(kernel, precision).T, **tolerance)
    np.testing.assert_allclose(kernel_gradient, rounded(x, precision).T @ rounded(slope, precision), **tolerance)


@pytest.mark.parametrize(("precision", "factor"), [("fp32", "f32"), ("bf16", "bf16")])
def test_with_the_kernels_every_product_has_a_form_that_is_fast_on_cpus(
    precision: str, factor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA's CPU backend is slow for products that sum over the rows of the left factor, and widens bfloat16 factors.

    This needs the transposition kernel, since XLA folds the reference's transposition into the product.
    """
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    x, kernel, slope = matrix(0, 128, 784), matrix(1, 784, 256), matrix(2, 128, 256)

    def gradients(x: Any, kernel: Any, slope: Any) -> Any:
        return jax.vjp(lambda x, kernel: matmul(x, kernel, precision), x, kernel)[1](slope)

    program = jax.jit(gradients).lower(x, kernel, slope).compile().as_text()
    kinds = dict(re.findall(r"(%\S+) = (\w+)\[", program))
    factors = re.findall(r" dot\((%[^,\s]+), (%[^)\s]+)\)", program)
    assert len(factors) == 2
    assert {kinds[name] for pair in factors for name in pair} == {factor}
    assert re.findall(r" dot\(.*lhs_contracting_dims=\{(\d)\}", program) == ["1", "1"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "dimensions"),
    [
        ((4, 6, 8), (8, 5), (((2,), (0,)), ((), ()))),  # A linear layer on [B, T, D].
        ((2, 3, 4, 8), (8, 5), (((3,), (0,)), ((), ()))),
        ((4, 6, 8), (8, 2, 3), (((2,), (0,)), ((), ()))),  # The projection to attention heads.
        ((4, 6, 2, 3), (2, 3, 7), (((2, 3), (0, 1)), ((), ()))),  # The projection back from the heads.
        ((4, 6, 8), (5, 8), (((2,), (1,)), ((), ()))),
        ((4, 6, 8), (4, 8, 5), (((2,), (1,)), ((0,), (0,)))),  # A product for each example.
    ],
)
def test_the_given_axes_are_contracted(
    x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], dimensions: Any, precision: str
) -> None:
    x, kernel = matrix(0, *x_shape), matrix(1, *kernel_shape)
    widened = (rounded(factor, precision) for factor in (x, kernel))
    expected = jax.lax.dot_general(*widened, dimensions)
    found, pull_back = jax.vjp(lambda x, kernel: dot_general(precision)(x, kernel, dimensions), x, kernel)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    _, pull_back_exactly = jax.vjp(lambda x, kernel: jax.lax.dot_general(x, kernel, dimensions), x, kernel)
    slope = np.ones(found.shape, np.float32)
    for gradient, exact in zip(pull_back(slope), pull_back_exactly(slope), strict=True):
        np.testing.assert_allclose(gradient, exact, rtol=0.05, atol=0.15 if precision == "bf16" else 1e-4)
