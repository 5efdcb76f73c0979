"""Resampling agrees with scipy's `map_coordinates`, as a kernel and as pure JAX."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from mnist_hpo.kernels.native import references_only
from mnist_hpo.kernels.resample import resample

Array = NDArray[Any]

IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float64)


@pytest.fixture(params=["kernel", "reference"], autouse=True)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test with the kernel and with its reference."""
    monkeypatch.setenv("MNIST_HPO_KERNELS", "on")
    with references_only() if request.param == "reference" else contextlib.nullcontext():
        yield


def resampled(images: Array, maps: Array, shifts: Array | None = None) -> NDArray[np.float32]:
    arguments = [jnp.asarray(array, jnp.float32) for array in (images, maps, shifts) if array is not None]
    # A new function for each call, because JAX would reuse what it traced with the other implementation.
    return np.asarray(jax.jit(lambda *a: resample(*a))(*arguments))


def expected(images: Array, maps: Array, shifts: Array | None = None) -> Array:
    """Compute in float64: scipy interpolates each channel at coordinates from a matrix product."""
    n, height, width, n_channels = images.shape
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([rows.ravel(), columns.ravel(), np.ones(height * width)])
    result = np.empty(images.shape)
    for b in range(n):
        coordinates = (maps[b] @ places).reshape(2, height, width)
        if shifts is not None:
            coordinates = coordinates + shifts[b]
        for c in range(n_channels):
            result[b, :, :, c] = map_coordinates(images[b, :, :, c], coordinates, order=1, mode="grid-constant")
    return result


@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (2, 28, 28, 3), (4, 5, 11, 2), (3, 12, 3, 1), (5, 1, 1, 1)])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("shifted", [False, True])
def test_resampling_agrees_with_scipy(shape: tuple[int, int, int, int], spread: float, shifted: bool) -> None:
    """With a spread of 30, most coordinates are outside of the image."""
    rng = np.random.default_rng(0)
    n, height, width, _ = shape
    images = rng.uniform(-1, 1, shape)
    maps = IDENTITY + spread * rng.uniform(-1, 1, (n, 2, 3)) * [1, 1, 5]
    shifts = spread * rng.standard_normal((n, 2, height, width)) if shifted else None
    # In float32, a coordinate is off by one part in 10 million of the largest term, a pixel by a few times that.
    np.testing.assert_allclose(
        resampled(images, maps, shifts), expected(images, maps, shifts), atol=1e-5 + 2e-4 * spread
    )


def test_whole_pixels_are_copied_exactly() -> None:
    """Zeros enter from outside, and half a pixel outside of the image the border is half as bright."""
    images = np.random.default_rng(1).uniform(size=(4, 6, 5, 2)).astype(np.float32)
    moves = [(0, 0), (2, -1), (-5, 4), (6, 0)]
    maps = np.stack([IDENTITY + np.array([[0, 0, dy], [0, 0, dx]]) for dy, dx in moves])
    found = resampled(images, maps)
    for b, (dy, dx) in enumerate(moves):
        padded = np.pad(images[b], ((6, 6), (6, 6), (0, 0)))
        np.testing.assert_array_equal(found[b], padded[6 + dy : 12 + dy, 6 + dx : 11 + dx])
    half = resampled(images, np.broadcast_to(IDENTITY + np.array([[0, 0, -0.5], [0, 0, 0]]), (4, 2, 3)))
    np.testing.assert_allclose(half[:, 0], images[:, 0] / 2, rtol=1e-6)


@pytest.mark.parametrize("far", [29.0, 1e4, -1e9, 3e9, 1e38, -1e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("by", ["map", "shifts"])
def test_places_outside_of_the_image_are_zero(far: float, by: str) -> None:
    """This includes coordinates that fit no integer and that are not numbers."""
    images, maps = np.ones((2, 28, 28, 1)), np.broadcast_to(IDENTITY, (2, 2, 3)).copy()
    shifts = np.zeros((2, 2, 28, 28))
    if by == "map":
        maps[0, 1, 2] = far
    else:
        shifts[0, 0] = far
    found = resampled(images, maps, shifts)
    assert not found[0].any()
    assert (found[1] == 1).all(), "the other image is unchanged"


def test_one_place_that_is_not_a_number_changes_no_other() -> None:
    images, shifts = np.ones((1, 6, 6, 1)), np.zeros((1, 2, 6, 6))
    shifts[0, 1, 2, 3] = np.nan
    found = resampled(images, IDENTITY[None], shifts)
    assert found[0, 2, 3, 0] == 0
    assert found.sum() == 35


def test_images_of_a_vmapped_batch_are_resampled_separately() -> None:
    """Maps may be shared: several trainings can augment the same images, each with its own strengths."""
    rng = np.random.default_rng(2)
    images, maps = rng.uniform(size=(3, 2, 8, 9, 1)), IDENTITY + 0.3 * rng.standard_normal((3, 2, 2, 3))
    shifts = rng.standard_normal((3, 2, 2, 8, 9))
    arrays = [jnp.asarray(array, jnp.float32) for array in (images, maps, shifts)]
    found = jax.jit(jax.vmap(lambda *a: resample(*a)))(*arrays)
    shared = jax.jit(jax.vmap(lambda images, maps: resample(images, maps), in_axes=(None, 0)))(arrays[0][0], arrays[1])
    for lane in range(3):
        np.testing.assert_allclose(found[lane], expected(images[lane], maps[lane], shifts[lane]), atol=1e-4)
        np.testing.assert_allclose(shared[lane], expected(images[0], maps[lane]), atol=1e-4)


def test_a_batch_without_images_is_empty() -> None:
    assert resampled(np.ones((0, 28, 28, 1)), np.ones((0, 2, 3))).shape == (0, 28, 28, 1)
