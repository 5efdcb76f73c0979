"""Digits in a line: strokes that belong together, and digits that touch."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import enlarged, grey_of, line_of, place

from mnist_hpo.preprocessing.find import find_digits

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def page(*bars: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return black rectangles (left, top, right, bottom) on white."""
    grey = np.full((200, 400), 255, np.uint8)
    for left, top, right, bottom in bars:
        grey[top:bottom, left:right] = 0
    return grey


def boxes(grey: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    return [digit.box for digit in find_digits(grey, line=True)]


def test_digits_are_returned_in_reading_order(valid_digits: Digits) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = boxes(grey_of(line_of(valid_digits[0][5 * seed : 5 * seed + 5], random)))
        assert [box[0] for box in found] == sorted(box[0] for box in found)


def test_digits_of_a_line_look_as_if_alone(valid_digits: Digits) -> None:
    digits = valid_digits[0][:4]
    sheet, alone = np.zeros((150, 700)), []
    for index, digit in enumerate(digits):
        single = np.zeros((150, 700))
        place(single, enlarged(digit, 120), 20 + 160 * index, 10 + 5 * index)
        place(sheet, enlarged(digit, 120), 20 + 160 * index, 10 + 5 * index)
        alone.append(find_digits(grey_of(single))[0])
    found = find_digits(grey_of(sheet), line=True)
    assert len(found) == len(digits)
    for digit, expected in zip(found, alone, strict=True):
        assert np.abs(np.subtract(digit.box, expected.box)).max() <= 1
        assert np.abs(digit.pixels.astype(int) - expected.pixels).mean() < 3


def test_without_line_all_strokes_are_one_digit() -> None:
    grey = page((50, 50, 70, 150), (200, 50, 220, 150))
    assert [digit.box for digit in find_digits(grey)] == [(50, 50, 220, 150)]
    assert boxes(grey) == [(50, 50, 70, 150), (200, 50, 220, 150)]


@pytest.mark.parametrize(
    "bar",
    [(62, 50, 100, 58), (92, 50, 125, 58), (20, 142, 40, 150)],
    ids=["above", "to the right, as the bar of a 5", "to the left"],
)
def test_a_separate_bar_belongs_to_the_nearest_digit(bar: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = bar
    found = boxes(page((50, 62, 90, 138), bar, (250, 50, 270, 150)))
    assert found == [(min(left, 50), min(top, 62), max(right, 90), max(bottom, 138)), (250, 50, 270, 150)]


def test_both_halves_of_a_broken_digit_are_one() -> None:
    assert boxes(page((50, 40, 90, 95), (52, 100, 92, 160), (150, 40, 170, 160))) == [
        (50, 40, 92, 160),
        (150, 40, 170, 160),
    ]


def test_a_lone_dot_is_no_digit() -> None:
    assert boxes(page((50, 40, 70, 160), (150, 148, 162, 160), (250, 40, 270, 160))) == [
        (50, 40, 70, 160),
        (250, 40, 270, 160),
    ]


def test_touching_digits_are_cut_where_they_touch() -> None:
    zeros = [(40, 50, 52, 150), (98, 50, 110, 150), (120, 50, 132, 150), (178, 50, 190, 150)]
    tops = [(40, 50, 110, 62), (40, 138, 110, 150), (120, 50, 190, 62), (120, 138, 190, 150)]
    found = boxes(page(*zeros, *tops, (110, 95, 120, 100), (300, 50, 312, 150)))
    assert len(found) == 3
    assert 110 <= found[0][2] <= 120
    assert 110 <= found[1][0] <= 120


def test_a_wide_digit_is_not_cut() -> None:
    wide = [(40, 50, 52, 150), (140, 50, 152, 150), (40, 50, 152, 62), (40, 138, 152, 150)]
    assert boxes(page(*wide, (300, 50, 312, 150))) == [(40, 50, 152, 150), (300, 50, 312, 150)]


def test_at_most_a_hundred_strokes_are_used() -> None:
    tile = np.full((11, 11), 255, np.uint8)
    tile[1:10, 1:10] = 0
    assert len(boxes(np.tile(tile, (40, 40)))) <= 100
