"""Deskewing, blurring and shifting of images, against SciPy and on real digits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.blur import blur
from mnist_hpo.data.deskew import deskew
from mnist_hpo.data.shift import shift

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits(few_digits: Path) -> Images:
    return np.array(load_search(few_digits, "standard").train_images[:1200]).reshape(-1, 28, 28, 1)


def centre_and_slope(image: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Return the centre of mass and the slope of x against y, from the definition of the moments."""
    y, x = np.mgrid[:28, :28]
    mass = image[..., 0].astype(float)
    centre_y, centre_x = (float((mass * axis).sum() / mass.sum()) for axis in (y, x))
    away_y, away_x = y - centre_y, x - centre_x
    return centre_y, centre_x, float((mass * away_x * away_y).sum() / (mass * away_y**2).sum())


def test_a_digit_is_sheared_and_centred_like_an_affine_transformation_of_scipy(digits: Images) -> None:
    for image, found in zip(digits[:50], deskew(digits[:50]), strict=True):
        centre_y, centre_x, slope = centre_and_slope(image)
        matrix = np.array([[1, 0], [slope, 1]])
        offset = np.array([centre_y, centre_x]) - matrix @ np.array([13.5, 13.5])
        expected = ndimage.affine_transform(image[..., 0].astype(float), matrix, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[..., 0], expected, atol=0.5 + 1e-6)


def test_a_deskewed_digit_is_upright_and_in_the_middle(digits: Images) -> None:
    before = np.array([centre_and_slope(image) for image in digits])
    after = np.array([centre_and_slope(image) for image in deskew(digits)])
    assert np.abs(before[:, 2]).mean() > 0.2
    assert np.abs(after[:, 2]).mean() < 0.02
    assert np.abs(after[:, :2] - 13.5).max() < 0.5


def test_an_image_is_deskewed_alone_as_in_a_batch(digits: Images) -> None:
    """More images than fit into one chunk."""
    together = deskew(digits)
    assert np.array_equal(deskew(digits[1100:1101]), together[1100:1101])
    assert deskew(digits[:0]).shape == (0, 28, 28, 1)


@pytest.mark.parametrize("pixels", [[], [(3, 5)], [(3, 5), (3, 9)]])
def test_an_image_without_a_slant_is_only_centred(pixels: list[tuple[int, int]]) -> None:
    image = np.zeros((1, 9, 11, 3), np.uint8)
    for row, column in pixels:
        image[0, row, column] = 200
    found = deskew(image)
    assert found.sum() == image.sum()
    if pixels:
        assert found[0, 4].any(axis=1).sum() == len(pixels)


def test_a_blur_is_scipys_convolution(digits: Images) -> None:
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    for image, found in zip(digits[:20], blur(digits[:20]), strict=True):
        total = ndimage.convolve(image[..., 0].astype(int), kernel, mode="constant")
        assert np.array_equal(found[..., 0], (total + 8) // 16)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, -1), (-2, 3), (28, 0), (0, -28)])
def test_a_shift_is_scipys(digits: Images, down: int, right: int) -> None:
    expected = ndimage.shift(digits[:5].astype(int), (0, down, right, 0), order=0, mode="constant")
    assert np.array_equal(shift(digits[:5], down, right), expected)
