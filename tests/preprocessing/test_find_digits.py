"""One digit in a picture: whatever the size, the colours, the light and the dirt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pictures import drawing, enlarged, grey_of, place

from mnist_hpo.preprocessing.errors import ImageError
from mnist_hpo.preprocessing.find import Digit, find_digits

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def ring(side: int, radius: float, width: float, centre: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return a zero with soft edges, dark on light, u8[side, side]."""
    y, x = np.mgrid[:side, :side]
    middle = centre or (side / 2, side / 2)
    distance = np.abs(np.hypot(y - middle[1], x - middle[0]) - radius)
    return grey_of(np.clip(width / 2 - distance + 0.5, 0, 1))


def one(grey: NDArray[np.uint8]) -> Digit:
    (digit,) = find_digits(grey)
    assert digit.pixels.shape == (28, 28)
    assert digit.pixels.dtype == np.uint8
    assert digit.pixels.max() == 255
    return digit


def difference(first: Digit, second: Digit) -> float:
    return float(np.abs(first.pixels.astype(int) - second.pixels).mean())


def centre_of_mass(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    y, x = np.mgrid[:28, :28]
    return float((y * pixels).sum() / pixels.sum()), float((x * pixels).sum() / pixels.sum())


def test_the_digit_is_scaled_and_centred_like_those_of_mnist(valid_digits: Digits) -> None:
    for digit in valid_digits[0][:50]:
        pixels = one(drawing(digit, 311)).pixels
        rows, columns = (np.flatnonzero((pixels > 0).any(axis=axis)) for axis in (1, 0))
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 in (19, 20)
        assert centre_of_mass(pixels) == pytest.approx((14, 14), abs=0.5)


def test_the_box_surrounds_the_ink() -> None:
    grey = np.full((200, 300), 255, np.uint8)
    grey[40:120, 70:90] = 0
    assert one(grey).box == (70, 40, 90, 120)
    large = np.full((1600, 2400), 255, np.uint8)
    large[320:960, 560:720] = 0
    box = one(large).box
    assert np.abs(np.subtract(box, (560, 320, 720, 960))).max() <= 5


def test_a_picture_that_is_reduced_ends_with_its_last_pixel() -> None:
    grey = np.full((1001, 1003), 255, np.uint8)
    grey[100:, 900:] = 0
    assert one(grey).box[2:] == (1003, 1001)


@pytest.mark.parametrize("side", [28, 60, 300, 447, 448, 1000, 3000])
def test_the_size_of_the_picture_does_not_matter(valid_digits: Digits, side: int) -> None:
    differences = [difference(one(drawing(digit, side)), one(drawing(digit))) for digit in valid_digits[0][:10]]
    assert np.median(differences) < 8  # The centre of few is rounded to another pixel.


def test_the_position_does_not_matter(valid_digits: Digits) -> None:
    ink = enlarged(valid_digits[0][0], 120)
    found = []
    for left, top in ((0, 0), (280, 0), (150, 90), (280, 180)):
        sheet = np.zeros((300, 400))
        place(sheet, ink, left, top)
        found.append(one(grey_of(sheet)))
    assert all(difference(digit, found[0]) == 0 for digit in found)
    assert len({digit.box for digit in found}) == 4


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (255, 130), (90, 20), (60, 110), (200, 230)])
def test_the_colours_of_paper_and_ink_do_not_matter(valid_digits: Digits, paper: int, ink: int) -> None:
    for digit in valid_digits[0][:10]:
        dark = drawing(digit)
        coloured = np.rint(ink + (paper - ink) * (dark / 255)).astype(np.uint8)
        assert difference(one(coloured), one(dark)) < 3


@pytest.mark.parametrize("border", [1, 6])
def test_a_tightly_cropped_thick_digit_is_dark_on_light(border: int) -> None:
    grey = ring(2 * (60 + 20 + border), 60, 40)
    assert one(grey).pixels[14, 14] == 0
    assert one(255 - grey).pixels[14, 14] == 0


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_thin_strokes_stay_visible(width: int) -> None:
    pixels = one(ring(300, 120, width)).pixels
    inked = np.count_nonzero(pixels >= 128)
    assert 60 < inked < 200
    assert pixels[14, 14] == 0


def test_thick_strokes_stay_thick() -> None:
    assert np.count_nonzero(one(ring(300, 90, 60)).pixels >= 128) > 200


def test_specks_and_grain_are_removed(valid_digits: Digits) -> None:
    random = np.random.default_rng(0)
    for digit in valid_digits[0][:10]:
        clean = drawing(digit)
        dirty = clean.copy()
        for y, x in random.integers(0, 298, (30, 2)):
            dirty[y : y + 2, x : x + 2] = 0
        grainy = np.clip(clean * 0.8 + random.normal(20, 5, clean.shape), 0, 255).astype(np.uint8)
        assert one(dirty).box == one(clean).box
        assert difference(one(dirty), one(clean)) < 4
        assert difference(one(grainy), one(clean)) < 8


def test_the_edge_of_a_shadow_is_no_ink(valid_digits: Digits) -> None:
    for digit in valid_digits[0][:10]:
        clean = np.full((300, 400), 230, np.uint8)
        clean[80:230, 130:280] = np.minimum(drawing(digit, 150), 230)
        shadowed = clean.astype(float)
        shadowed[:, 200:] *= 0.6
        shadowed *= np.linspace(1, 0.7, 300)[:, None]
        found = one(shadowed.astype(np.uint8))
        assert np.abs(np.subtract(found.box, one(clean).box)).max() <= 2
        assert difference(found, one(clean)) < 8


def test_a_frame_and_a_table_beside_the_paper_are_left_out(valid_digits: Digits) -> None:
    for digit in valid_digits[0][:10]:
        grey = drawing(digit)
        framed, on_table = grey.copy(), grey.copy()
        framed[:4] = framed[-4:] = framed[:, :4] = framed[:, -4:] = 0
        on_table[:20] = on_table[:, :15] = 60
        for changed in (framed, on_table):
            assert np.abs(np.subtract(one(changed).box, one(grey).box)).max() <= 1
            assert difference(one(changed), one(grey)) < 2


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (1, 900), (300, 300)])
def test_an_empty_picture_has_no_ink(level: int, shape: tuple[int, int]) -> None:
    for line in (False, True):
        with pytest.raises(ImageError) as caught:
            find_digits(np.full(shape, level, np.uint8), line=line)
        assert caught.value.code == "no_ink"


def test_empty_paper_has_no_ink() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        light = np.linspace(1, random.uniform(0.7, 1), 400)
        paper = random.uniform(50, 220) * light + random.normal(0, random.uniform(1, 8), (300, 400))
        with pytest.raises(ImageError) as caught:
            find_digits(np.clip(paper, 0, 255).astype(np.uint8))
        assert caught.value.code == "no_ink"


def test_a_dot_in_a_large_picture_is_no_digit() -> None:
    grey = np.full((300, 300), 255, np.uint8)
    grey[100, 100] = 0
    with pytest.raises(ImageError, match="write larger"):
        find_digits(grey)


@pytest.mark.parametrize("shape", [(2, 2), (8, 8), (3, 4000), (4000, 3), (4000, 6000)])
def test_any_size_and_aspect_ratio_is_read(shape: tuple[int, int]) -> None:
    height, width = shape
    grey = np.full(shape, 255, np.uint8)
    grey[height // 4 : height // 4 + max(1, height // 2), width // 4 : width // 4 + max(1, width // 2)] = 0
    left, top, right, bottom = one(grey).box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def digits_or_none(grey: NDArray[np.uint8], line: bool) -> list[Digit]:
    """Return the digits, at least one; or an empty list if an error says that there is no ink."""
    code, digits = None, []
    try:
        digits = find_digits(grey, line=line)
    except ImageError as error:
        code = error.code
    assert code == (None if digits else "no_ink")
    return digits


PICTURES = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.integers(0, 255) | st.sampled_from([0, 255]),
    fill=st.sampled_from([0, 100, 255]),
)


@given(PICTURES, st.booleans())
def test_any_picture_has_digits_or_no_ink(grey: NDArray[np.uint8], line: bool) -> None:
    height, width = grey.shape
    digits = digits_or_none(grey, line)
    assert line or len(digits) <= 1
    for digit in digits:
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert digit.pixels.shape == (28, 28)
        assert digit.pixels.max() == 255


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3, 0.5, 1]), st.booleans())
def test_noise_has_digits_or_no_ink(seed: int, density: float, line: bool) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 120, 2))
    noise = np.where(random.random(shape) < density, random.integers(0, 256, shape), 255).astype(np.uint8)
    assert len(digits_or_none(noise, line)) <= (200 if line else 1)
