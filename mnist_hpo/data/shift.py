"""Move images by whole pixels. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shift(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Return u8[E, H, W, C]: the images moved down and to the right; the pixels that become free are 0.

    Args:
        images: u8[E, H, W, C].
        down: pixels, from -H to H; a negative number moves the images up.
        right: pixels, from -W to W; a negative number moves them to the left.

    """
    _, height, width, _ = images.shape
    found = np.zeros_like(images)
    found[:, max(down, 0) : height + down, max(right, 0) : width + right] = images[
        :, max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return found
