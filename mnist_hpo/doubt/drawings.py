"""Pictures that show no digit, and digits as people draw them: the examples that the detector learns from.

The pictures without a digit are made from digits (mirrored, turned, cut, joined, laid over each other), from letters in
the fonts that Matplotlib brings, and from random strokes, shapes and specks. Learning from outliers like these
transfers to other outliers (Hendrycks, Mazeika & Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR
2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter

from mnist_hpo.preprocessing.digit import as_mnist
from mnist_hpo.preprocessing.errors import ImageError
from mnist_hpo.preprocessing.find import find_digits
from mnist_hpo.preprocessing.ink import FULL

_Picture = NDArray[np.uint8]
"""u8[H, W]: light ink on black."""

_SIDE = 112
"""The side of a drawn picture in pixels."""
_LETTERS = "acdefhijkmnprtuvwxyACEFHJKLMNPQRTUVWXY"
"""Letters that do not look like a digit: without b, g, l, o, q, s, z, B, D, G, I, O, S and Z."""
_ASYMMETRIC = (2, 3, 4, 5, 6, 7, 9)
"""Digits that are none when they are mirrored."""
_DIRECTED = (1, 2, 3, 4, 5, 7)
"""Digits that are none when they are turned by 90°."""


class Drawings:
    """Draws pictures with digits and without.

    Args:
        images: digits u8[E, 28, 28].
        labels: u8[E].
        seed: the drawings are a function of the digits and this seed.

    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int) -> None:
        self._images, self._labels = images, labels
        self._rng = np.random.default_rng(seed)

    def digits(self, n: int) -> NDArray[np.uint8]:
        """Return n digits u8[n, 28, 28] as if people had drawn them: larger, slanted, thinner or thicker."""
        return np.stack([_normalised(self._redrawn(self._digit())) for _ in range(n)])

    def others(self, n: int) -> NDArray[np.uint8]:
        """Return n pictures u8[n, 28, 28] without a digit, of each kind in turn."""
        kinds: tuple[Callable[[], _Picture], ...] = (
            self._letter,
            self._strokes,
            self._shapes,
            self._letter,
            self._changed_digit,
            self._specks,
            self._letter,
            self._strokes,
            self._shapes,
        )
        return np.stack([_normalised(_with_ink(kinds[index % len(kinds)])) for index in range(n)])

    def _digit(self, labels: tuple[int, ...] | None = None) -> _Picture:
        while True:
            row = self._rng.integers(len(self._images))
            if labels is None or self._labels[row] in labels:
                return self._images[row]

    def _redrawn(self, digit: _Picture) -> _Picture:
        picture = Image.fromarray(np.pad(digit, 4)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        return self._thickened(self._slanted(picture, rotation=0.15, shear=0.25))

    def _slanted(self, picture: Image.Image, *, rotation: float, shear: float) -> Image.Image:
        """Rotate a picture about its middle by up to so many radians, and shear it."""
        angle, slope = self._rng.uniform(-rotation, rotation), self._rng.uniform(-shear, shear)
        aspect = math.exp(self._rng.uniform(-0.2, 0.2))
        cosine, sine, middle = math.cos(angle), math.sin(angle), picture.width / 2
        matrix = np.array([[cosine * aspect, -sine + slope], [sine, cosine / aspect]])
        offset = middle - matrix @ (middle, middle)
        rows = (*matrix[0], offset[0], *matrix[1], offset[1])
        return picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)

    def _thickened(self, picture: Image.Image) -> _Picture:
        """Make strokes thinner, thicker or neither, at random."""
        size = self._rng.choice([3, 5, 7])
        kind = self._rng.integers(3)
        changed = [picture, picture.filter(ImageFilter.MaxFilter(size)), picture.filter(ImageFilter.MinFilter(3))][kind]
        found = np.asarray(changed)
        return found if found.any() else np.asarray(picture)

    def _letter(self) -> _Picture:
        paths = _fonts()
        font = ImageFont.truetype(paths[self._rng.integers(len(paths))], 64)
        picture = Image.new("L", (_SIDE, _SIDE))
        letter = _LETTERS[self._rng.integers(len(_LETTERS))]
        ImageDraw.Draw(picture).text((_SIDE / 2, _SIDE / 2), letter, 255, font, anchor="mm")
        return self._thickened(self._slanted(picture, rotation=0.3, shear=0.3))

    def _strokes(self) -> _Picture:
        """Draw up to five curves (Bézier) or polygons."""
        picture = Image.new("L", (_SIDE, _SIDE))
        draw = ImageDraw.Draw(picture)
        for _ in range(self._rng.integers(1, 6)):
            points = self._rng.uniform(8, _SIDE - 8, (self._rng.integers(2, 6), 2))
            line = _curve(points) if self._rng.random() < 0.5 else points
            draw.line([(x, y) for x, y in line.tolist()], 255, int(self._rng.integers(2, 16)), "curve")
        return np.asarray(picture)

    def _shapes(self) -> _Picture:
        """Draw up to eight filled shapes in different greys, some with a texture; half of the pictures are outlines."""
        picture = Image.new("L", (_SIDE, _SIDE))
        draw = ImageDraw.Draw(picture)
        for _ in range(self._rng.integers(1, 9)):
            left, top, width, height = self._rng.uniform((4, 4, 8, 8), (90, 90, 90, 90))
            box = (left, top, min(_SIDE - 4, left + width), min(_SIDE - 4, top + height))
            corners = self._rng.uniform(4, _SIDE - 4, (self._rng.integers(3, 6), 2)).tolist()
            grey = int(self._rng.integers(40, 256))
            match int(self._rng.integers(3)):
                case 0:
                    draw.rectangle(box, grey)
                case 1:
                    draw.ellipse(box, grey)
                case _:
                    draw.polygon([(x, y) for x, y in corners], grey)
        drawn = np.asarray(picture)
        if self._rng.random() < 0.5:
            drawn = np.maximum(drawn, drawn[:, ::-1])  # Many things are symmetric, and few digits.
        if self._rng.random() < 0.4:
            texture = gaussian_filter(self._rng.random(drawn.shape), self._rng.uniform(0.5, 6))
            drawn = (drawn * (texture / texture.max())).astype(np.uint8)
        return drawn if self._rng.random() < 0.5 else _outlined(drawn)

    def _specks(self) -> _Picture:
        """Return independent pixels, or noise of some scale above a threshold."""
        noise = self._rng.random((28, 28))
        if self._rng.random() < 0.4:
            return np.where(noise < self._rng.uniform(0.01, 0.5), 255, 0).astype(np.uint8)
        noise = gaussian_filter(noise, self._rng.uniform(0, 3))
        noise = (noise - noise.min()) / (noise.max() - noise.min())
        return np.where(noise > self._rng.uniform(0.2, 0.9), noise * 255, 0).astype(np.uint8)

    def _changed_digit(self) -> _Picture:
        """Mirror, turn, join, lay over each other, or cut digits."""
        match int(self._rng.integers(5)):
            case 0:
                return self._digit(_ASYMMETRIC)[:, ::-1]
            case 1:
                return np.rot90(self._digit(_DIRECTED))
            case 2:
                first, second = self._two_digits()
                return np.vstack([first[:14], second[14:]])
            case 3:
                first, second = self._two_digits()
                shift = self._rng.integers(-6, 7, 2)
                return np.maximum(first, np.roll(second, tuple(shift.tolist()), (0, 1)))
            case _:
                digit = self._digit()
                start = self._rng.integers(11, 17)
                cut = digit[start:] if self._rng.random() < 0.5 else digit[:, :start]
                return cut if cut.any() else digit[::-1]

    def _two_digits(self) -> tuple[_Picture, _Picture]:
        """Return two different digits."""
        while True:
            first, second = self._rng.integers(len(self._images), size=2)
            if self._labels[first] != self._labels[second]:
                return self._images[first], self._images[second]


def _outlined(picture: _Picture) -> _Picture:
    """Return what the preprocessing takes for ink in a dark picture on white: of large areas, their edges."""
    try:
        return find_digits(255 - picture)[0].pixels
    except ImageError:
        return picture


@cache
def _fonts() -> list[Path]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(path for path in folder.glob("*.ttf") if path.stem.startswith(("DejaVu", "STIXGeneral")))


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 30 points of the Bézier curve of these control points, f64[30, 2]."""
    degree = len(points) - 1
    at = np.linspace(0, 1, 30)[:, None]
    return np.sum(
        [math.comb(degree, k) * (1 - at) ** (degree - k) * at**k * point for k, point in enumerate(points)], axis=0
    )


def _with_ink(draw: Callable[[], _Picture]) -> _Picture:
    """Draw until there is something in the picture."""
    while True:
        picture = draw()
        if picture.any():
            return picture


def _normalised(picture: _Picture) -> NDArray[np.uint8]:
    """Scale and centre the ink of a picture as the preprocessing of uploaded pictures does."""
    most = max(1, int(picture.max()))
    return as_mnist((picture.astype(np.int64) * FULL + most // 2) // most)
