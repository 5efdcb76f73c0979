"""Multinomial logistic regression on the pixels, with an L2 penalty, by scikit-learn (L-BFGS)."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.deskew import deskew
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Description, SklearnModel, Tensors
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet
from mnist_hpo.spec.tensor_layout import check_layout, check_range

_CHUNK = 1000
"""Images in memory as float64 at a time. Constant, so that sums are always in the same order."""


def fit(images: NDArray[np.uint8], labels: NDArray[np.uint8], n_classes: int, parameters: ParameterSet) -> Tensors:
    """Train on images u8[E, H, W, C]; see `SklearnModel.fit`.

    The optimiser may stop after `max_iter` iterations without having converged: fewer iterations regularise.

    Returns:
        `coefficients` f64[F, S] and `intercepts` f64[S] of the S classes that occur in the labels, `classes` u8[S];
        `n_classes`.

    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes, pixels = np.unique(labels), _pixels(images, parameters)
    described = {"classes": classes, "n_classes": np.array(n_classes)}
    if len(classes) == 1:  # scikit-learn refuses a single class.
        return described | {"coefficients": np.zeros((pixels.shape[1], 1)), "intercepts": np.zeros(1)}
    regression = LogisticRegression(C=float(parameters["C"]), max_iter=int(parameters["max_iter"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(pixels, labels)
    coefficients, intercepts = np.asarray(regression.coef_).T, np.asarray(regression.intercept_)
    if len(classes) == 2:  # scikit-learn has a single logit, that of the second class against the first.
        coefficients, intercepts = np.pad(coefficients, ((0, 0), (1, 0))), np.pad(intercepts, (1, 0))
    return described | {"coefficients": np.ascontiguousarray(coefficients), "intercepts": intercepts}


def scores(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the logits f64[E, C] of images u8[E, H, W, C]. A class that was not trained has the smallest less 1."""
    n_classes, classes = int(tensors["n_classes"]), tensors["classes"]
    found = np.empty((len(images), n_classes))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        logits = _pixels(images[rows], parameters) @ tensors["coefficients"] + tensors["intercepts"]
        found[rows] = logits.min(axis=1, keepdims=True) - 1
        found[rows, classes] = logits
    return found


def check(tensors: Tensors, n_features: int, n_classes: int, _: ParameterSet) -> None:
    """Check the arrays of a file; see `SklearnModel.check`."""
    layout = {"coefficients": "float F S", "intercepts": "float S", "classes": "int S", "n_classes": "int"}
    sizes = check_layout(tensors, layout, {"F": n_features})
    check_range(tensors, "classes", 0, n_classes)
    check_range(tensors, "n_classes", n_classes, n_classes + 1)
    if sizes["S"] == 0:
        raise ValueError("there are no classes")


def _pixels(images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    prepared = deskew(images) if parameters["deskew"] == "yes" else images
    return prepared.reshape(len(images), math.prod(images.shape[1:])) / 255


def describe(data: DataShape, parameters: ParameterSet) -> Description:
    """Return the cost of `max_iter` iterations, each with one product for the logits and one for the gradient.

    Epoch e of E has e / E of the examples, half of them on average.
    """
    products = data.n_features * data.n_classes
    train_flops = 2 * products * data.n_train * int(parameters["max_iter"])
    return Description(products + data.n_classes, 2 * products, train_flops, train_flops + 2 * products * data.n_valid)


MODEL = SklearnModel(
    hyperparameters={
        "C": Number(float, default=1.0, low=0, high=1e9, low_open=True),
        "max_iter": Number(int, default=100, low=1, high=1_000_000),
        "deskew": Choice("no", ("no", "yes")),
    },
    fit=fit,
    scores=scores,
    check=check,
    describe=describe,
    images="shaped",
)
