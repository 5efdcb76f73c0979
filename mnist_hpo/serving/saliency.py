"""Which pixels decided: occlusion, which works with any model.

M. D. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

PATCH, STRIDE = 4, 2

Shape = tuple[int, int, int]


@cache
def _patches(shape: Shape) -> NDArray[np.bool_]:
    """Return which pixels each patch covers, bool[P, H, W]."""
    height, width, _ = shape
    corners = [(y, x) for y in _starts(height) for x in _starts(width)]
    patches = np.zeros((len(corners), height, width), np.bool_)
    for patch, (y, x) in zip(patches, corners, strict=True):
        patch[y : y + PATCH, x : x + PATCH] = True
    return patches


def _starts(length: int) -> range:
    return range(0, max(length - PATCH, 0) + 1, STRIDE)


def occluded(image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Return copies of an image u8[F], each with one patch of the background's value 0: u8[P, F]."""
    kept = ~_patches(shape)[..., None]
    return (image.reshape(shape) * kept).reshape(len(kept), -1)


def saliency(
    probabilities: NDArray[np.float32], occluded_probabilities: NDArray[np.float32], shape: Shape
) -> NDArray[np.float32]:
    """Return how much each pixel counts for the predicted class, f32[H, W].

    A pixel's value is the mean drop of that class's probability over the patches that cover the pixel; negative where
    the class is more probable without it.

    Args:
        probabilities: f32[C], of the image.
        occluded_probabilities: f32[P, C], of the copies that `occluded` returned.
        shape: height, width and channels of the image.

    """
    patches = _patches(shape)
    predicted = probabilities.argmax()
    drops = probabilities[predicted] - occluded_probabilities[:, predicted]
    covered = patches.sum(axis=0)
    return (np.tensordot(drops, patches, axes=1) / np.maximum(covered, 1)).astype(np.float32)
