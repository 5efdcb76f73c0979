"""The k nearest neighbours of an image: their votes, weighted by distance, in the L1, L2, L3 or L4 norm.

Cover & Hart, "Nearest neighbor pattern classification" (1967). The distances that do best on MNIST are of deskewed
images, in the L3 norm, with one image shifted by a pixel until it fits best: K. Wilder's entries of 1.33 and 1.22 % in
LeCun's list of results on MNIST.

The distance to every training image is computed in the L2 norm and without shifts, as a matrix product. Only the
`n_candidates` nearest of them are compared exactly. On 10,000 validation digits and 45,000 training digits, that takes
a small part of the time of the product, while L3 distances to all would take 40 times as long as the product.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.blur import blur
from mnist_hpo.data.deskew import deskew
from mnist_hpo.data.shift import shift
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Description, SklearnModel, Tensors
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet
from mnist_hpo.spec.tensor_layout import check_layout, check_range

_CHUNK = 500
"""Images whose distances to all training images are in memory at a time, as float32."""
_SMOOTHING = 0.01
"""Added to the share of votes of each class, so that a class without votes has a finite score."""
_SMALLEST = 1e-6
"""Distances below this count as this, so that equal images do not divide by zero. Pixels are from 0 to 1."""


def fit(images: NDArray[np.uint8], labels: NDArray[np.uint8], n_classes: int, parameters: ParameterSet) -> Tensors:
    """Store images u8[E, H, W, C]; see `SklearnModel.fit`.

    Returns:
        `images` u8[E, F], deskewed and blurred as the hyperparameters say; `labels` u8[E]; `n_classes`.

    """
    stored = _flat(_preprocess(images, parameters))
    return {"images": stored, "labels": labels, "n_classes": np.array(n_classes)}


def scores(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the logarithm of each class's smoothed share of the votes, f64[E, C], of images u8[E, H, W, C].

    A vote's weight is the inverse of the neighbour's distance to the power of `weight_power`.
    """
    found_distances, neighbours = nearest(tensors, images, parameters)
    distances = np.maximum(found_distances.astype(np.float64), _SMALLEST)
    votes = (distances[:, :1] / distances) ** float(parameters["weight_power"])
    found = np.zeros((len(images), int(tensors["n_classes"])))
    every = np.arange(len(images))
    for place in range(neighbours.shape[1]):
        found[every, tensors["labels"][neighbours[:, place]]] += votes[:, place]
    return np.log(found / found.sum(axis=1, keepdims=True) + _SMOOTHING)


def check(tensors: Tensors, n_features: int, n_classes: int, _: ParameterSet) -> None:
    """Check the arrays of a file; see `SklearnModel.check`."""
    layout = {"images": "int E F", "labels": "int E", "n_classes": "int"}
    sizes = check_layout(tensors, layout, {"F": n_features})
    check_range(tensors, "labels", 0, n_classes)
    check_range(tensors, "n_classes", n_classes, n_classes + 1)
    if sizes["E"] == 0:
        raise ValueError("there are no images")


def nearest(
    tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the k nearest training images of each image, the nearest first; of equally near ones, the lowest row first.

    The distance is that of the pixels, from 0 to 1, and the smallest over all shifts of the image by at most `shift`
    pixels in each direction. If there are fewer than k training images, k is their number.

    Args:
        tensors: what `fit` returned.
        images: u8[E, H, W, C].
        parameters: the hyperparameters.

    Returns:
        The distances f32[E, k], and the rows of the training images i64[E, k].

    """
    stored = tensors["images"].astype(np.float32) / np.float32(255)
    n_neighbours = min(int(parameters["k"]), len(stored))
    distances = np.empty((len(images), n_neighbours), np.float32)
    rows = np.empty((len(images), n_neighbours), np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        prepared = _preprocess(images[chunk], parameters)
        candidates = _candidates(stored, _pixels(prepared), max(int(parameters["n_candidates"]), n_neighbours))
        exact = _exact_distances(stored, prepared, candidates, parameters)
        order = np.argsort(exact, axis=1, kind="stable")[:, :n_neighbours]
        distances[chunk] = np.take_along_axis(exact, order, axis=1)
        rows[chunk] = np.take_along_axis(candidates, order, axis=1)
    return distances, rows


def _candidates(stored: NDArray[np.float32], pixels: NDArray[np.float32], n_candidates: int) -> NDArray[np.int64]:
    """Return the rows i64[E, n] of the nearest stored images in the L2 norm, in ascending order of the rows."""
    if n_candidates >= len(stored):
        return np.tile(np.arange(len(stored)), (len(pixels), 1))
    # The square of the pixels' norm is the same for all stored images.
    distances = pixels @ stored.T
    distances *= -2
    distances += np.einsum("ij,ij->i", stored, stored)[None]
    return np.sort(np.argpartition(distances, n_candidates, axis=1)[:, :n_candidates], axis=1)


def _exact_distances(
    stored: NDArray[np.float32], images: NDArray[np.uint8], candidates: NDArray[np.int64], parameters: ParameterSet
) -> NDArray[np.float32]:
    """Return the distance of each image to each of its candidates, f32[E, n]."""
    power, reach = int(parameters["p"]), int(parameters["shift"])
    shifts = itertools.product(range(-reach, reach + 1), repeat=2)
    shifted = np.stack([_pixels(shift(images, down, right)) for down, right in shifts])
    smallest = np.full(candidates.shape, np.inf, np.float32)
    for row, its_candidates in enumerate(candidates):
        others = stored[its_candidates]
        for pixels in shifted[:, row]:
            np.minimum(smallest[row], _sum_of_powers(others - pixels[None], power), out=smallest[row])
    return smallest ** np.float32(1 / power)


def _sum_of_powers(differences: NDArray[np.float32], power: int) -> NDArray[np.float32]:
    """Return f32[n], the sums over the last axis of the absolute differences to a power. Changes `differences`."""
    magnitudes = np.abs(differences, out=differences)
    powers = magnitudes
    for _ in range(power - 1):
        powers = powers * magnitudes
    return powers.sum(axis=1)


def _preprocess(images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.uint8]:
    if parameters["deskew"] == "yes":
        images = deskew(images)
    for _ in range(int(parameters["blur"])):
        images = blur(images)
    return images


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.reshape(len(images), math.prod(images.shape[1:]))


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of images as f32[E, F] from 0 to 1."""
    return _flat(images).astype(np.float32) / np.float32(255)


def describe(data: DataShape, parameters: ParameterSet) -> Description:
    """Return the cost, nearly all of which is that of predictions: the training only stores the images.

    A prediction computes a product with all stored images, and the exact distances to the candidates. Epoch e of E
    stores e / E of the images, half of them on average; it predicts the validation examples and the held-out ones.
    """
    n_shifts = (2 * int(parameters["shift"]) + 1) ** 2
    n_candidates = min(max(int(parameters["n_candidates"]), int(parameters["k"])), data.n_train)
    per_image = data.n_features * (2 * data.n_train + n_candidates * n_shifts * (int(parameters["p"]) + 1))
    train_flops = data.n_features * data.n_train
    epoch_cost = train_flops + per_image * (data.n_valid + data.n_train // 10) // 2
    return Description((data.n_features + 1) * data.n_train, per_image, train_flops, epoch_cost)


MODEL = SklearnModel(
    hyperparameters={
        "k": Number(int, default=4, low=1, high=1000),
        "weight_power": Number(float, default=1.0, low=0, high=100),
        "p": Number(int, default=2, low=1, high=4),
        "deskew": Choice("no", ("no", "yes")),
        "blur": Number(int, default=0, low=0, high=10),
        "shift": Number(int, default=0, low=0, high=3),
        "n_candidates": Number(int, default=200, low=1, high=100_000_000),
    },
    fit=fit,
    scores=scores,
    check=check,
    describe=describe,
    images="shaped",
    max_train_loss_examples=1000,
)
