"""The support vector machine of scikit-learn (libsvm): one against one, with `kernel` rbf or linear.

Cortes & Vapnik, "Support-Vector Networks" (1995). A class's score is minus the sum of the margins by which it loses to
other classes. Measured on 4,000 digits with C = 5, gamma = 0.02: its softmax has a log loss of 0.151, that of
scikit-learn's votes 0.260, that of the plain sum of margins 0.193.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Description, SklearnModel, Tensors
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

_CACHE_MB = 500
"""libsvm's cache of kernel values during training. It affects only the speed."""
_CHUNK = 1000
"""Number of images whose kernel values are in memory at a time. Fixed, so that sums always have the same order."""


def fit(images: NDArray[np.uint8], labels: NDArray[np.uint8], n_classes: int, parameters: ParameterSet) -> Tensors:
    """Train on images u8[E, F]; see `SklearnModel.fit`.

    Returns:
        `support_vectors` u8[V, F]: pixels; `coefficients` f64[V, P] of each pair of classes; `intercepts` f64[P];
        `n_classes`, and `classes`, the classes among the labels. For the linear kernel, `coefficients` is f64[F, P],
        and there are no support vectors.

    """
    from sklearn.svm import SVC

    classes, kernel = np.unique(labels), str(parameters["kernel"])
    described = {"classes": classes, "n_classes": np.array(n_classes)}
    if len(classes) == 1:  # libsvm rejects a single class. There are no pairs of classes.
        described["intercepts"] = np.zeros(0)
        if kernel == "linear":
            return described | {"coefficients": np.zeros((images.shape[1], 0))}
        return described | {"support_vectors": images[:0], "coefficients": np.zeros((0, 0))}
    # scikit-learn's annotation of gamma allows only its named settings.
    gamma: Any = float(parameters["gamma"])
    machine = SVC(C=float(parameters["C"]), kernel=kernel, gamma=gamma, cache_size=_CACHE_MB, random_state=0)
    machine.fit(images / 255, labels)
    # For two classes, scikit-learn inverts the sign.
    sign = -1.0 if len(classes) == 2 else 1.0
    coefficients = sign * _by_pair(np.asarray(machine.dual_coef_), np.asarray(machine.n_support_))
    vectors = images[machine.support_]
    described["intercepts"] = sign * np.asarray(machine.intercept_)
    if kernel == "linear":
        return described | {"coefficients": vectors.T / 255 @ coefficients}
    return described | {"support_vectors": vectors, "coefficients": coefficients}


def _by_pair(dual: NDArray[np.float64], n_support: NDArray[np.int32]) -> NDArray[np.float64]:
    """Spread libsvm's coefficients f64[classes - 1, V] to a column for each pair of classes."""
    ends = np.cumsum(n_support)
    pairs = list(itertools.combinations(range(len(n_support)), 2))
    coefficients = np.zeros((dual.shape[1], len(pairs)))
    for column, (first, second) in enumerate(pairs):
        for own, other in ((first, second - 1), (second, first)):
            rows = slice(ends[own] - n_support[own], ends[own])
            coefficients[rows, column] = dual[other, rows]
    return coefficients


def scores(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return scores f64[E, C] of images u8[E, F]; an untrained class loses to each trained one by a margin of 1."""
    n_classes, classes = int(tensors["n_classes"]), tensors["classes"]
    found = np.zeros((len(images), n_classes))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        margins = decisions(tensors, images[rows], parameters)
        for column, (first, second) in enumerate(itertools.combinations(classes.tolist(), 2)):
            found[rows, first] += np.minimum(margins[:, column], 0)
            found[rows, second] -= np.maximum(margins[:, column], 0)
    unseen = np.setdiff1d(np.arange(n_classes), classes)
    found[:, unseen] = -float(len(classes))
    return found


def decisions(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the margin of each pair of classes, f64[E, P], positive for the first, like `decision_function`.

    The pairs are those of the trained classes, in the order of `itertools.combinations`.
    """
    pixels = images / 255
    if str(parameters["kernel"]) == "linear":
        return pixels @ tensors["coefficients"] + tensors["intercepts"]
    vectors = tensors["support_vectors"] / 255
    squared_distance = np.sum(pixels**2, 1)[:, None] + np.sum(vectors**2, 1)[None] - 2 * (pixels @ vectors.T)
    kernel = np.exp(-float(parameters["gamma"]) * squared_distance)
    return kernel @ tensors["coefficients"] + tensors["intercepts"]


def describe(data: DataShape, parameters: ParameterSet) -> Description:
    """Return the cost if every example became a support vector; the actual number is known only after training.

    Training computes the kernel of every pair of examples. Epoch e of E trains on e / E of the examples, so the mean of
    the squared numbers over the epochs is about a third of that of the last epoch.
    """
    n_pairs_of_classes = data.n_classes * (data.n_classes - 1) // 2
    is_linear = parameters["kernel"] == "linear"
    n_vectors = data.n_features if is_linear else data.n_train
    n_numbers = n_vectors * n_pairs_of_classes + n_pairs_of_classes + (0 if is_linear else n_vectors * data.n_features)
    train_flops = 2 * data.n_features * data.n_train**2 // 3
    per_image = n_vectors * n_pairs_of_classes + (0 if is_linear else n_vectors * data.n_features)
    return Description(n_numbers, 2 * per_image, train_flops, train_flops + 2 * per_image * data.n_valid)


MODEL = SklearnModel(
    hyperparameters={
        "kernel": Choice("rbf", ("rbf", "linear")),
        "C": Number(float, default=1.0, low=0, high=1e9, low_open=True),
        "gamma": Number(float, default=0.02, low=0, high=1e6, low_open=True),
    },
    fit=fit,
    scores=scores,
    describe=describe,
)
