"""Find digits in a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_hpo.preprocessing.digit import as_mnist, box_of
from mnist_hpo.preprocessing.ink import FULL, ink_of
from mnist_hpo.preprocessing.line import number_digits
from mnist_hpo.preprocessing.paper import find_paper
from mnist_hpo.preprocessing.resample import block_averages, reduction
from mnist_hpo.preprocessing.strokes import find_strokes


@dataclass(frozen=True)
class Digit:
    """A digit that was found in a picture."""

    pixels: NDArray[np.uint8]
    """u8[28, 28], ink 255 on 0, as MNIST's digits."""
    box: tuple[int, int, int, int]
    """Its left, top, right and bottom edge in the picture's pixels."""


BLANK = Digit(np.zeros((28, 28), np.uint8), (0, 0, 0, 0))
"""Instead of a digit where nothing is written: models answer it with doubt."""


def find_digits(grey: NDArray[np.uint8], *, line: bool = False) -> list[Digit]:
    """Find the digits in a picture, dark on light or light on dark, drawn or photographed.

    Args:
        grey: grey values u8[H, W], 255 = white, as of `decode`.
        line: whether the picture shows several digits in a line. Else all strokes are one digit.

    Returns:
        the digits from left to right; without `line`, exactly one.

    Raises:
        ImageError: (no_ink) nothing is written in the picture.

    """
    side = reduction(*grey.shape)
    ink = ink_of(find_paper(block_averages(grey, side)))
    strokes, labels = find_strokes(ink)
    numbers = number_digits(strokes, labels) if line else np.minimum(labels, 1)
    digits: list[Digit] = []
    for number, place in enumerate(ndimage.find_objects(numbers), start=1):
        if place is None:
            continue
        own: NDArray[np.int64] = np.where(numbers[place] == number, ink[place], 0)
        if own.max() >= FULL // 2:  # Else a cut left only a soft edge.
            digits.append(_digit(own, place[1].start, place[0].start, side, grey.shape))
    return digits


def _digit(ink: NDArray[np.int64], left: int, top: int, side: int, shape: tuple[int, ...]) -> Digit:
    box = box_of(ink)
    height, width = shape
    in_picture = (
        (left + box.left) * side,
        (top + box.top) * side,
        min((left + box.right) * side, width),
        min((top + box.bottom) * side, height),
    )
    return Digit(as_mnist(ink), in_picture)
