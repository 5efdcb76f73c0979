"""Pictures of handwriting, rendered from MNIST's digits: clean drawings, lines of digits, and photographs of paper."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ink = NDArray[np.float64]
"""f64[H, W] from 0 (paper) to 1 (ink)."""

BLUE_INK = np.array([35, 55, 150])
PAPER = np.array([240, 236, 225])


def enlarged(digit: NDArray[np.uint8], height: int, filter_: Image.Resampling = Image.Resampling.BICUBIC) -> Ink:
    """Return a digit u8[28, 28], resampled to height × height pixels."""
    return np.asarray(Image.fromarray(digit).resize((height, height), filter_)) / 255


def drawing(
    digit: NDArray[np.uint8], side: int = 300, filter_: Image.Resampling = Image.Resampling.BICUBIC
) -> NDArray[np.uint8]:
    """Return a digit as a grey picture u8[side, side], dark on light."""
    return grey_of(enlarged(digit, side, filter_))


def grey_of(ink: Ink) -> NDArray[np.uint8]:
    return np.rint(255 - 255 * ink).astype(np.uint8)


def place(sheet: Ink, ink: Ink, left: int, top: int) -> None:
    """Add ink to a sheet, in place."""
    height, width = ink.shape
    region = sheet[top : top + height, left : left + width]
    np.maximum(region, ink, out=region)


def line_of(digits: NDArray[np.uint8], random: np.random.Generator, height: int = 110) -> Ink:
    """Return digits u8[n, 28, 28] in a line, of varying size, gaps and baseline, cropped to their ink as one writes."""
    sheet, x = np.zeros((2 * height, height * (len(digits) + 1))), height // 3
    for digit in digits:
        ink = enlarged(digit, int(height * random.uniform(0.9, 1.2)))
        columns = np.flatnonzero((ink > 0.3).any(axis=0))
        ink = ink[:, columns[0] : columns[-1] + 1]
        place(sheet, ink, x, int(height * random.uniform(0.3, 0.5)))
        x += ink.shape[1] + int(height * random.uniform(0.08, 0.35))
    return sheet


def photograph(ink: Ink, random: np.random.Generator, height: int = 480, width: int = 640) -> bytes:
    """Return a JPEG file: blue ink on grainy paper, slightly rotated, in uneven light with the edge of a shadow."""
    sheet = np.zeros((height, width))
    rotated = Image.fromarray(np.rint(255 * ink).astype(np.uint8)).rotate(
        random.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True
    )
    rotated.thumbnail((width - 20, height - 20))
    ink = np.asarray(rotated) / 255
    place(
        sheet, ink, *(int(random.integers(1, of - n)) for of, n in zip((width, height), ink.shape[::-1], strict=True))
    )
    picture = PAPER + (BLUE_INK - PAPER) * sheet[..., None]
    picture = picture * _light(height, width, random)[..., None] + _grain(height, width, random)[..., None]
    file = io.BytesIO()
    Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _light(height: int, width: int, random: np.random.Generator) -> Ink:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angles = random.uniform(0, 2 * np.pi, 2)
    lamp, shadow = (x * np.cos(angle) + y * np.sin(angle) for angle in angles)
    edge = 1 / (1 + np.exp(-(shadow - random.uniform(-0.5, 0.5)) * 40))
    return (0.8 + 0.14 * lamp) * (1 - 0.3 * edge)


def _grain(height: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    coarse = Image.fromarray(random.normal(0, 4, (height // 8, width // 8)).astype(np.float32))
    return random.normal(0, 5, (height, width)) + np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
