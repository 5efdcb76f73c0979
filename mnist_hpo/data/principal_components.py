"""The principal components of images. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 5000
"""Images in memory as float64 at a time."""


def principal_components(images: NDArray[np.uint8], n_components: int) -> NDArray[np.float64]:
    """Return the orthonormal directions in which the pixels vary most, f64[F, n], the largest variance first.

    If there are fewer pixels than `n_components`, n is their number. The components' signs are arbitrary.

    Args:
        images: u8[E, F].
        n_components: the number of directions.

    """
    n_features = images.shape[1]
    total, products = np.zeros(n_features), np.zeros((n_features, n_features))
    for start in range(0, len(images), _CHUNK):
        pixels = images[start : start + _CHUNK].astype(np.float64)
        # Sums of whole numbers below 2**53 are exact.
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    _, directions = np.linalg.eigh(len(images) * products - np.outer(total, total))
    return np.ascontiguousarray(directions[:, ::-1][:, :n_components])
