"""Augmentation of training images, computed in the training step. Every strength is a traced number.

The geometric changes are composed into one resampling: an affine map and the elastic distortion of Simard et al., "Best
Practices for Convolutional Neural Networks Applied to Visual Document Analysis" (2003). Random erasing is that of
Zhong et al., "Random Erasing Data Augmentation" (2020), with black rectangles.

Shapes: B images of height H, width W and C channels, f32[B, H, W, C]. Coordinates are in pixels, as (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mnist_hpo.kernels.resample import resample
from mnist_hpo.layers.hashed_words import HashedWords

Scalar = jax.Array

_GEOMETRIC = ("rotation", "translation", "scaling", "shear", "elastic")
"""The hyperparameters of which any that is on makes the images be resampled."""

_MAX_RADIUS = 400
"""In pixels: four times the largest `elastic_sigma`, which is where the Gaussian is cut off."""
_ERASED_AREA = (0.02, 0.33)
"""The smallest and largest share of an image that is erased."""
_LARGEST_ASPECT = 3.3
"""The largest ratio of an erased rectangle's height to its width, and of its width to its height."""


class Strengths(NamedTuple):
    """How strongly images are changed, each f32[]."""

    rotation: Scalar
    """The largest angle in degrees, in both directions."""
    translation: Scalar
    """The largest shift in pixels, along both axes and in both directions."""
    scaling: Scalar
    """Height and width are multiplied by independent factors from 1 - scaling to 1 + scaling."""
    shear: Scalar
    """The largest angle in degrees by which vertical lines are inclined."""
    elastic: Scalar
    """The factor of the smoothed displacements, in pixels."""
    elastic_sigma: Scalar
    """The standard deviation in pixels of the Gaussian that smooths the displacements."""
    erasing: Scalar
    """The probability that a rectangle is erased."""


def augment(
    images: jax.Array, words: HashedWords, stream: int, strengths: Strengths, active: Sequence[str]
) -> jax.Array:
    """Change each image at random.

    Args:
        images: f32[B, H, W, C].
        words: the random words of the step.
        stream: the first of three streams of `words`.
        strengths: the strengths.
        active: the names of the hyperparameters that are on. The others are not computed.

    Returns:
        f32[B, H, W, C].

    """
    n, height, width, _ = images.shape
    if any(name in active for name in _GEOMETRIC):
        draws = 2 * words.uniform(stream, (n, 6)) - 1
        maps = affine_maps(draws, strengths, height, width)
        shifts = None
        if "elastic" in active:
            shifts = 2 * words.uniform(stream + 1, (n, 2, height, width)) - 1
            shifts = strengths.elastic * smoothed(shifts, strengths.elastic_sigma)
        images = resample(images, maps, shifts)
    if "erasing" in active:
        images = erase(images, words.uniform(stream + 2, (n, 5)), strengths.erasing)
    return images


def affine_maps(draws: jax.Array, strengths: Strengths, height: int, width: int) -> jax.Array:
    """Return for each image the map from its new pixels to those that they are taken from.

    An image is scaled, then sheared, then rotated about its centre, then shifted.

    Args:
        draws: f32[B, 6] from -1 to 1: rotation, shear, scaling of y and x, translation along y and x.
        strengths: the strengths.
        height: of the images.
        width: of the images.

    Returns:
        f32[B, 2, 3]: a pixel at (y, x) is taken from map @ (y, x, 1).

    """
    angle, shear = jnp.deg2rad(strengths.rotation * draws[:, 0]), jnp.deg2rad(strengths.shear * draws[:, 1])
    factor_y, factor_x = (1 + strengths.scaling * draws[:, index] for index in (2, 3))
    sine, cosine, slope = jnp.sin(angle), jnp.cos(angle), jnp.tan(shear)
    row_y = jnp.stack([cosine / factor_y, -sine / factor_y], axis=1)
    row_x = jnp.stack([(sine - slope * cosine) / factor_x, (cosine + slope * sine) / factor_x], axis=1)
    matrix = jnp.stack([row_y, row_x], axis=1)
    center = jnp.array([[(height - 1) / 2, (width - 1) / 2]], jnp.float32)
    moved = center + strengths.translation * draws[:, 4:6]
    offset = center - (matrix * moved[:, None, :]).sum(axis=2)
    return jnp.concatenate([matrix, offset[:, :, None]], axis=2)


def smoothed(fields: jax.Array, sigma: Scalar) -> jax.Array:
    """Return fields f32[..., H, W] filtered by a Gaussian, with zeros outside, as `scipy.ndimage.gaussian_filter`."""
    height, width = fields.shape[-2:]
    along_y, along_x = _gaussian(height, sigma), _gaussian(width, sigma)
    # These products need the precision of float32: a displacement of many pixels is a sum of small terms.
    return jnp.einsum("ij,...jk,lk->...il", along_y, fields, along_x)


def _gaussian(size: int, sigma: Scalar) -> jax.Array:
    """Return the filter as a matrix f32[size, size], cut off at four standard deviations."""
    radius = jnp.floor(4 * sigma + 0.5)

    def weights(distance: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(distance) <= radius, jnp.exp(-0.5 * (distance / sigma) ** 2), 0.0)

    total = weights(jnp.arange(-_MAX_RADIUS, _MAX_RADIUS + 1, dtype=jnp.float32)).sum()
    place = jnp.arange(size, dtype=jnp.float32)
    return weights(place[:, None] - place[None, :]) / total


def erase(images: jax.Array, draws: jax.Array, probability: Scalar) -> jax.Array:
    """Set a rectangle of some of the images to zero.

    Args:
        images: f32[B, H, W, C].
        draws: f32[B, 5] from 0 to 1: whether, area, aspect ratio, position along y and x.
        probability: of a rectangle.

    """
    _, height, width, _ = images.shape
    smallest, largest = _ERASED_AREA
    area = (smallest + (largest - smallest) * draws[:, 1]) * (height * width)
    aspect = jnp.exp(math.log(_LARGEST_ASPECT) * (2 * draws[:, 2] - 1))
    is_chosen = draws[:, 0] < probability

    def inside(size: int, length: jax.Array, draw: jax.Array) -> jax.Array:
        length = jnp.minimum(jnp.round(length), size)
        first = jnp.floor(draw * (size - length + 1))
        place = jnp.arange(size, dtype=jnp.float32)[None, :]
        return (place >= first[:, None]) & (place < (first + length)[:, None])

    rows = inside(height, jnp.sqrt(area * aspect), draws[:, 3])
    columns = inside(width, jnp.sqrt(area / aspect), draws[:, 4])
    erased = is_chosen[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return jnp.where(erased[..., None], 0.0, images)
