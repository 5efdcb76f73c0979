"""Images of any usual shape and type are converted to the intended pixels, or refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.bundle.pixels import to_pixels
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError

GREY = (28, 28, 1)


@pytest.fixture(scope="module")
def digits(mnist: PreparedDataset) -> NDArray[np.uint8]:
    return np.array(load_search(mnist.directory, "standard").valid_images[:50])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", ">i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(50, 784), (50, 28, 28), (50, 28, 28, 1)])
def test_pixels_do_not_depend_on_type_and_shape(digits: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> None:
    found = to_pixels(digits.reshape(shape).astype(dtype), GREY)
    assert found.dtype == np.uint8
    assert np.array_equal(found, digits)


def test_lists_views_and_empty_arrays_are_accepted(digits: NDArray[np.uint8]) -> None:
    assert np.array_equal(to_pixels(digits.tolist(), GREY), digits)
    assert np.array_equal(to_pixels(digits[::-2], GREY), digits[::-2])
    assert to_pixels(np.empty((0, 28, 28)), GREY).shape == (0, 784)


def black(dtype: Any = np.float32) -> NDArray[Any]:
    return np.zeros((2, 784), dtype)


def test_black_float_images_and_the_faintest_integer_images_are_accepted() -> None:
    assert not to_pixels(black(), GREY).any()
    faint = black(np.int64)
    faint[0, 0] = 1
    assert to_pixels(faint, GREY).sum() == 1


def with_value(value: float, dtype: Any = np.float64) -> NDArray[Any]:
    images = black(dtype)
    images[0, 0], images[1, 783] = 255, value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (black()[0], r"shape \(784,\); pass \(n, 784\) or \(n, 28, 28\); for a single image, pass image\[None\]"),
        (black()[0].reshape(28, 28), r"shape \(28, 28\);.* pass image\[None\]"),
        (black().reshape(2, 14, 56), r"shape \(2, 14, 56\)"),
        (black().reshape(2, 1, 28, 28), r"shape \(2, 1, 28, 28\)"),
        (black()[:, :783], r"shape \(2, 783\)"),
        (3, r"shape \(\)"),
        ([[1, 2], [3]], "different sizes"),
        (black(bool), "type bool"),
        (black(str), "type <U1"),
        (black(object), "type object"),
        (black(complex), "type complex128"),
        (with_value(256, np.int32), "from 0 to 256; pass the raw values"),
        (with_value(-1)[1:].astype(np.int8), "from -1 to 0; pass the raw values"),
        (with_value(np.nan), "from nan to nan"),
        (with_value(np.inf), "to inf"),
        (with_value(127.5), "not whole numbers"),
        (black() + np.float32(0.5), r"scaled to 0\.\.1; pass the raw values, 0 to 255, such as np\.rint"),
        (black() + 1, r"scaled to 0\.\.1"),
    ],
)
def test_other_arrays_are_refused_with_the_fix(images: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        to_pixels(images, GREY)


@pytest.mark.parametrize("shape", [(4, 14 * 7 * 3), (4, 14, 7, 3)])
def test_colour_images_that_are_not_square_are_accepted(digits: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    pixels = digits[:4, : 14 * 7 * 3]
    assert np.array_equal(to_pixels(pixels.reshape(shape), (14, 7, 3)), pixels)


@pytest.mark.parametrize("shape", [(4, 7, 14, 3), (4, 14, 21), (4, 14, 7, 3, 1)])
def test_colour_images_of_another_shape_are_refused(digits: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"pass \(n, 294\) or \(n, 14, 7, 3\)$"):
        to_pixels(digits[:4, : 14 * 7 * 3].reshape(shape), (14, 7, 3))
