"""Blur images with a binomial filter. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def blur(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return u8[E, H, W, C]: each pixel as the mean of its 3 x 3 neighbours, weighted by (1, 2, 1) in each direction.

    Outside of the image, pixels are 0. Halves are rounded up.

    Args:
        images: u8[E, H, W, C].

    """
    padded = np.pad(images.astype(np.uint16), ((0, 0), (1, 1), (1, 1), (0, 0)))
    by_row = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    total = by_row[:, :, :-2] + 2 * by_row[:, :, 1:-1] + by_row[:, :, 2:]
    return ((total + 8) // 16).astype(np.uint8)
