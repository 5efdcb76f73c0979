"""Augmentation agrees with scipy, and its random changes have the documented ranges."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.stats import kstest

from mnist_hpo.layers.hashed_words import HashedWords
from mnist_hpo.learners.flax import augmentation
from mnist_hpo.learners.flax.augmentation import Strengths, affine_maps, erase, smoothed
from mnist_hpo.learners.flax.program import AUGMENTATION
from mnist_hpo.learners.protocol import Examples

Array = NDArray[Any]

STREAM = 10_001
ALL = {"rotation": 20, "translation": 3, "scaling": 0.2, "shear": 15, "elastic": 30, "erasing": 0.5}


def strengths(**given: float) -> Strengths:
    values = dict.fromkeys(AUGMENTATION, 0.0) | {"elastic_sigma": 4.0} | given
    return Strengths(*(jnp.float32(values[name]) for name in Strengths._fields))


def symmetric(stream: int, shape: tuple[int, ...], step: int, seed: tuple[int, int] = (1, 2)) -> Array:
    """Return a step's random numbers from -1 to 1."""

    def function(seed: jax.Array, step: jax.Array) -> jax.Array:
        return 2 * HashedWords(seed, step).uniform(stream, shape) - 1

    return np.asarray(jax.jit(function)(jnp.array(seed, jnp.uint32), jnp.uint32(step)))


def boxes_of(draws: Array, size: tuple[int, int]) -> Array:
    """Return the heights and widths of the rectangles that these draws erase with a probability of one."""
    images = jnp.ones((len(draws), *size, 3))
    return np.array(erased_boxes(np.asarray(jax.jit(erase)(images, jnp.asarray(draws, jnp.float32), jnp.float32(1)))))


def augment(images: Array, given: Mapping[str, float], *, step: int = 0, seed: tuple[int, int] = (1, 2)) -> Array:
    """Augment, with the given hyperparameters on, even at zero."""
    active = [name for name in AUGMENTATION if name in given]

    def function(images: jax.Array, step: jax.Array, strengths: Strengths) -> jax.Array:
        words = HashedWords(jnp.array(seed, jnp.uint32), step)
        return augmentation.augment(images, words, STREAM, strengths, active)

    return np.asarray(jax.jit(function)(jnp.asarray(images), jnp.uint32(step), strengths(**given)))


@pytest.fixture
def images(digits: tuple[Examples, Examples]) -> Array:
    """64 real digits, f32[64, 28, 28, 1]."""
    return digits[0].images[:64].astype(np.float32) / 255


def forward_matrix(draws: Array, given: Strengths) -> Array:
    """Compose scaling, shear and rotation of coordinates (y, x) around the origin, in float64."""
    rotation, shear = np.radians(float(given.rotation) * draws[0]), np.radians(float(given.shear) * draws[1])
    scale = np.diag([1 + float(given.scaling) * draws[2], 1 + float(given.scaling) * draws[3]])
    # A shear moves a pixel along x in proportion to its y, so that vertical lines are inclined by its angle.
    inclined = np.array([[1, 0], [np.tan(shear), 1]])
    rotated = np.array([[np.cos(rotation), np.sin(rotation)], [-np.sin(rotation), np.cos(rotation)]])
    return rotated @ inclined @ scale


@pytest.mark.parametrize(
    "given",
    [
        {"rotation": 180.0},
        {"translation": 9.0},
        {"scaling": 0.9},
        {"shear": 80.0},
        {"rotation": 30.0, "translation": 4.0, "scaling": 0.3, "shear": 25.0},
    ],
)
@pytest.mark.parametrize("size", [(28, 28), (12, 21)])
def test_an_affine_map_is_scaling_then_shear_then_rotation_about_the_centre_then_a_shift(
    given: dict[str, float], size: tuple[int, int]
) -> None:
    draws, chosen = np.random.default_rng(0).uniform(-1, 1, (50, 6)), strengths(**given)
    maps = jax.jit(affine_maps, static_argnums=(2, 3))
    found = np.asarray(maps(jnp.asarray(draws, jnp.float32), chosen, *size), np.float64)
    center = (np.array(size) - 1) / 2
    for draw, new_to_old in zip(draws, found, strict=True):
        # Any point, transformed and mapped back, is where it was.
        points = np.random.default_rng(1).uniform(0, 28, (2, 9))
        moved = forward_matrix(draw, chosen) @ (points - center[:, None]) + center[:, None]
        moved += float(chosen.translation) * draw[4:6, None]
        np.testing.assert_allclose(new_to_old @ np.vstack([moved, np.ones(9)]), points, atol=2e-3)


def test_a_rotation_turns_and_a_shift_moves_real_digits_as_scipy_does(images: Array) -> None:
    """The draws are those of the step, which the documented stream of words gives."""
    given = {"rotation": 25.0, "translation": 3.0, "scaling": 0.2, "shear": 10.0}
    found, chosen = augment(images, given, step=7), strengths(**given)
    draws = symmetric(STREAM, (64, 6), step=7)
    center = np.array([13.5, 13.5])
    for image, result, draw in zip(images, found, draws.astype(np.float64), strict=True):
        inverse = np.linalg.inv(forward_matrix(draw, chosen))
        offset = center - inverse @ (center + 3.0 * draw[4:6])
        expected = affine_transform(image[..., 0].astype(np.float64), inverse, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(result[..., 0], expected, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 2.5, 4.0, 8.0, 33.0, 100.0])
@pytest.mark.parametrize("size", [(28, 28), (9, 40)])
def test_fields_are_smoothed_as_scipy_does(sigma: float, size: tuple[int, int]) -> None:
    fields = np.random.default_rng(0).uniform(-1, 1, (3, 2, *size)).astype(np.float32)
    found = np.asarray(jax.jit(smoothed)(fields, jnp.float32(sigma)))
    expected = [[gaussian_filter(f.astype(np.float64), sigma, mode="constant", truncate=4) for f in p] for p in fields]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_an_elastic_distortion_moves_pixels_by_the_smoothed_displacements() -> None:
    """The input's pixel values are their coordinates, so the output shows where each pixel comes from."""
    sigma, factor, size = 3.0, 8.0, 40
    ramp = np.stack(np.mgrid[:size, :size], axis=-1).astype(np.float32)
    found = augment(np.broadcast_to(ramp, (4, size, size, 2)), {"elastic": factor, "elastic_sigma": sigma}, step=3)
    fields = symmetric(STREAM + 1, (4, 2, size, size), step=3).astype(np.float64)
    inner = slice(4, -4)
    for image, field in zip(found, fields, strict=True):
        for axis in (0, 1):
            moved = factor * gaussian_filter(field[axis], sigma, mode="constant", truncate=4)
            assert 0.3 < np.abs(moved).max() < 4
            np.testing.assert_allclose((image - ramp)[inner, inner, axis], moved[inner, inner], atol=1e-4)


@pytest.mark.parametrize("name", AUGMENTATION)
def test_a_strength_of_zero_changes_nothing(images: Array, name: str) -> None:
    np.testing.assert_allclose(augment(images, {name: 0.0}), images, atol=1e-6)
    everything = dict.fromkeys(AUGMENTATION, 0.0)
    np.testing.assert_allclose(augment(images, everything), images, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATION)
def test_a_change_alone_equals_it_beside_others_at_zero(images: Array, name: str) -> None:
    """Which hyperparameters are on is static, but it does not change the random numbers of any."""
    alone = augment(images, {name: ALL[name]})
    beside = augment(images, dict.fromkeys(AUGMENTATION, 0.0) | {name: ALL[name]})
    np.testing.assert_allclose(alone, beside, atol=1e-5)
    assert np.abs(alone - images).max() > 0.1


def test_the_seed_and_the_step_determine_the_changes(images: Array) -> None:
    first = augment(images, ALL, step=5)
    assert first.tobytes() == augment(images, ALL, step=5).tobytes()
    for other in (
        augment(images, ALL, step=6),
        augment(images, ALL, step=5, seed=(1, 3)),
        augment(images, ALL, step=5, seed=(2, 2)),
    ):
        # Each image changes differently.
        assert np.all(np.abs(first - other).max(axis=(1, 2, 3)) > 0.01)
    same = np.broadcast_to(images[:1], images.shape)
    assert len({image.tobytes() for image in augment(same, ALL)}) == 64, "each example has its own draw"


def test_the_draws_are_uniform_and_independent() -> None:
    """From the maps, recovers the angle, the factors and the shift of 4,000 images over 40 steps."""
    draws = jnp.concatenate([jnp.asarray(symmetric(STREAM, (100, 6), step)) for step in range(40)])
    maps = jax.jit(affine_maps, static_argnums=(2, 3))
    turned = np.asarray(maps(draws, strengths(rotation=40.0), 28, 28))
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    scaled = np.asarray(maps(draws, strengths(scaling=0.5, translation=5.0), 28, 28))
    factors = 1 / scaled[:, [0, 1], [0, 1]]
    # A pixel at the centre was at `old`, which the translation moved there.
    old = scaled @ np.array([13.5, 13.5, 1], np.float32)
    shifts = (13.5 - old) * factors
    measured = np.column_stack([angles / 40, (factors - 1) / 0.5, shifts / 5])
    for column in measured.T:
        assert kstest(column, "uniform", args=(-1, 2)).pvalue > 1e-3
    correlations = np.corrcoef(measured.T) - np.eye(5)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(draws))


def test_normal_words_are_normally_distributed_and_differ_by_stream() -> None:
    words = HashedWords(jnp.array([3, 4], jnp.uint32), jnp.uint32(9))
    normal = jax.jit(lambda: [words.normal(stream, (200, 300)) for stream in (5, 6)])
    first, second = (np.asarray(values, np.float64).ravel() for values in normal())
    for values in (first, second):
        assert kstest(values, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)
    assert np.isfinite(first).all()


def erased_boxes(result: Array) -> list[tuple[int, int]]:
    """Return height and width of the black rectangle in each image of ones, after checking that it is one."""
    boxes = []
    for image in result:
        black = image[..., 0] == 0
        assert (black == (image == 0).all(axis=-1)).all(), "all channels are erased"
        if black.any():
            height, width = int(black.any(axis=1).sum()), int(black.any(axis=0).sum())
            assert black.sum() == height * width, "a rectangle"
            rows = np.flatnonzero(black.any(axis=1))
            assert rows[-1] - rows[0] + 1 == height
            boxes.append((height, width))
    return boxes


@pytest.mark.parametrize("size", [(28, 28), (28, 50)])
def test_the_erased_area_and_aspect_ratio_are_in_their_ranges(size: tuple[int, int]) -> None:
    boxes = boxes_of(np.random.default_rng(0).uniform(size=(4000, 5)), size)
    assert len(boxes) == 4000
    height, width = boxes.T
    share = height * width / (size[0] * size[1])
    # Sides are rounded to whole pixels and cut off at the border, so a share may be off by a few percent.
    assert 0.01 < share.min() < 0.03
    assert 0.30 < share.max() < 0.36
    assert share.mean() == pytest.approx((0.02 + 0.33) / 2, rel=0.05)
    uncut = (share < 0.15) & (height * width > 60)
    aspect = height[uncut] / width[uncut]
    assert 1 / 3.8 < aspect.min() < 1 / 2.8
    assert 2.8 < aspect.max() < 3.8
    assert abs(np.log(aspect).mean()) < 0.05


def test_every_pixel_can_be_erased() -> None:
    draws = jnp.asarray(np.random.default_rng(0).uniform(size=(4000, 5)), jnp.float32)
    black = np.asarray(jax.jit(erase)(jnp.ones((4000, 28, 28, 1)), draws, jnp.float32(1)))[..., 0] == 0
    share = black.mean(axis=0)
    assert share.min() > 0.003
    assert share[14, 14] > 5 * share[0, 0], "a rectangle never leaves the image, so it rarely covers a corner"
    # The four corners are equally likely.
    corners = black[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(axis=0)
    assert np.ptp(corners) < 5 * np.sqrt(2 * corners.mean())


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.6, 1.0])
def test_the_probability_of_erasing_is_the_share_of_erased_images(probability: float) -> None:
    result = augment(np.ones((4000, 28, 28, 1), np.float32), {"erasing": probability})
    n_erased = len(erased_boxes(result))
    assert abs(n_erased - 4000 * probability) <= 4 * np.sqrt(4000 * probability * (1 - probability))


def test_extreme_draws_keep_the_rectangle_inside_the_image() -> None:
    corners = np.array(np.meshgrid(*[[2.0**-24, 1 - 2.0**-24]] * 5)).reshape(5, -1).T
    boxes = boxes_of(corners, (28, 28))
    assert len(boxes) == 32
    assert boxes.min() >= 2


def test_augmented_pixels_stay_between_black_and_white(images: Array) -> None:
    result = augment(images, ALL)
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6
