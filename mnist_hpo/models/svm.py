"""The support vector machine of scikit-learn (libsvm): one-vs-one, with an rbf or a linear `kernel`.

Cortes & Vapnik, "Support-Vector Networks" (1995). A class's score is minus the sum of the margins by which it loses
against other classes. On 4,000 digits with C = 5 and gamma = 0.02, the softmax of these scores has a log loss of 0.151;
that of scikit-learn's votes has 0.260, that of the plain sum of margins 0.193.

With `shifts`, the machine is fitted twice: the second time to the support vectors of the first and to copies of them
moved by a pixel ("virtual support vectors"). Schölkopf, Burges & Vapnik, "Incorporating Invariances in Support Vector
Learning Machines" (1996); DeCoste & Schölkopf, "Training Invariant Support Vector Machines" (2002). With
`n_components`, distances are those of the images' projections to as many principal components: on 6,000 digits with
C = 5, gamma = 0.02 and 60 components, a fit takes 0.6 s instead of 4.2, and 3.62 % of 10,000 validation digits are
wrong instead of 3.91.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.deskew import deskew
from mnist_hpo.data.principal_components import principal_components
from mnist_hpo.data.shift import shift
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Description, SklearnModel, Tensors
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet
from mnist_hpo.spec.tensor_layout import check_layout, check_range

if TYPE_CHECKING:
    from sklearn.svm import SVC

_CACHE_MB = 500
"""The size of libsvm's cache of kernel values, which affects only the speed."""
_CHUNK = 1000
"""Images whose kernel values are in memory at a time. Constant, so that sums are always in the same order."""
_MOVES = {
    "none": [],
    "four": [(-1, 0), (0, -1), (0, 1), (1, 0)],
    "eight": [move for move in itertools.product((-1, 0, 1), repeat=2) if move != (0, 0)],
}
"""The moves of the copies of the support vectors, in pixels (down, right), by the values of `shifts`."""


def fit(images: NDArray[np.uint8], labels: NDArray[np.uint8], n_classes: int, parameters: ParameterSet) -> Tensors:
    """Train on images u8[E, H, W, C]; see `SklearnModel.fit`.

    Returns:
        `support_vectors` u8[V, F] as pixels, deskewed if the hyperparameters say so; `coefficients` f64[V, P] for each
        pair of classes; `intercepts` f64[P]; `n_classes`; `classes`, the classes that occur in the labels. With
        `n_components`, `components` f64[F, D], and `support_vectors` is their projection, f64[V, D]. For the linear
        kernel, `coefficients` is f64[F, P], and there are neither support vectors nor components.

    """
    classes, prepared = np.unique(labels), _prepare(images, parameters)
    described = {"classes": classes, "n_classes": np.array(n_classes)}
    components = None
    if "n_components" in parameters:
        components = principal_components(_flat(prepared), int(parameters["n_components"]))
    if len(classes) == 1:  # libsvm refuses a single class. There is no pair of classes.
        vectors, coefficients, intercepts = _flat(prepared[:0]), np.zeros((0, 0)), np.zeros(0)
    else:
        if _MOVES[str(parameters["shifts"])]:
            rows = _machine(_project(_flat(prepared), components), labels, parameters).support_
            prepared, labels = _with_shifted_copies(prepared[rows], labels[rows], parameters)
        vectors, coefficients, intercepts = _support(_flat(prepared), labels, components, parameters)
    described["intercepts"] = intercepts
    if parameters["kernel"] == "linear":
        weights = _project(vectors, components).T @ coefficients
        return described | {"coefficients": weights if components is None else components @ weights}
    if components is None:
        return described | {"support_vectors": vectors, "coefficients": coefficients}
    vectors = _project(vectors, components)
    return described | {"support_vectors": vectors, "coefficients": coefficients, "components": components}


def _support(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    components: NDArray[np.float64] | None,
    parameters: ParameterSet,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Fit to images u8[E, F]; return the support vectors u8[V, F], their coefficients f64[V, P] and the intercepts."""
    machine = _machine(_project(images, components), labels, parameters)
    # For two classes, scikit-learn inverts the sign.
    sign = -1.0 if len(machine.classes_) == 2 else 1.0
    coefficients = sign * _by_pair(np.asarray(machine.dual_coef_), np.asarray(machine.n_support_))
    return images[machine.support_], coefficients, sign * np.asarray(machine.intercept_)


def _machine(features: NDArray[np.float64], labels: NDArray[np.uint8], parameters: ParameterSet) -> SVC:
    from sklearn.svm import SVC

    # scikit-learn's type annotation wrongly accepts only strings.
    gamma: Any = float(parameters["gamma"])
    machine = SVC(
        C=float(parameters["C"]), kernel=str(parameters["kernel"]), gamma=gamma, cache_size=_CACHE_MB, random_state=0
    )
    return machine.fit(features, labels)


def _with_shifted_copies(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], parameters: ParameterSet
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images u8[E, H, W, C] and their labels, followed by those of their moved copies."""
    moves = _MOVES[str(parameters["shifts"])]
    copies = [images, *(shift(images, down, right) for down, right in moves)]
    return np.concatenate(copies), np.tile(labels, len(copies))


def _by_pair(dual: NDArray[np.float64], n_support: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return libsvm's coefficients f64[classes - 1, V] as one column per pair of classes, f64[V, P]."""
    ends = np.cumsum(n_support)
    pairs = list(itertools.combinations(range(len(n_support)), 2))
    coefficients = np.zeros((dual.shape[1], len(pairs)))
    for column, (first, second) in enumerate(pairs):
        for own, other in ((first, second - 1), (second, first)):
            rows = slice(ends[own] - n_support[own], ends[own])
            coefficients[rows, column] = dual[other, rows]
    return coefficients


def scores(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return scores f64[E, C] of images u8[E, H, W, C].

    A class that was not trained loses to all others by a margin of 1.
    """
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


def check(tensors: Tensors, n_features: int, n_classes: int, parameters: ParameterSet) -> None:
    """Check the arrays of a file; see `SklearnModel.check`."""
    n_pairs = math.comb(len(tensors["classes"]), 2)
    layout = {"classes": "int S", "n_classes": "int", "intercepts": "float P"}
    if parameters["kernel"] == "linear":
        layout |= {"coefficients": "float F P"}
    elif "components" in tensors:
        layout |= {"coefficients": "float V P", "support_vectors": "float V D", "components": "float F D"}
    else:
        layout |= {"coefficients": "float V P", "support_vectors": "int V F"}
    sizes = check_layout(tensors, layout, {"F": n_features, "P": n_pairs})
    check_range(tensors, "classes", 0, n_classes)
    check_range(tensors, "n_classes", n_classes, n_classes + 1)
    if sizes["S"] == 0:
        raise ValueError("there are no classes")


def decisions(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the margin of each pair of classes, f64[E, P], positive for the first, like `SVC.decision_function`.

    The images are u8[E, H, W, C]. The pairs are those of the classes in the training labels, in the order of
    `itertools.combinations`.
    """
    flat = _flat(_prepare(images, parameters))
    if parameters["kernel"] == "linear":
        return flat / 255 @ tensors["coefficients"] + tensors["intercepts"]
    components, vectors = tensors.get("components"), tensors["support_vectors"]
    features = _project(flat, components)
    vectors = vectors / 255 if components is None else vectors
    squared_distance = np.sum(features**2, 1)[:, None] + np.sum(vectors**2, 1)[None] - 2 * (features @ vectors.T)
    kernel = np.exp(-float(parameters["gamma"]) * squared_distance)
    return kernel @ tensors["coefficients"] + tensors["intercepts"]


def _prepare(images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.uint8]:
    return deskew(images) if parameters["deskew"] == "yes" else images


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.reshape(len(images), math.prod(images.shape[1:]))


def _project(images: NDArray[np.uint8], components: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the pixels of images u8[E, F] from 0 to 1, or their projection to components f64[F, D].

    The mean is not subtracted, since neither kernel's machine changes if all images are moved alike.
    """
    return images / 255 if components is None else images / 255 @ components


def describe(data: DataShape, parameters: ParameterSet) -> Description:
    """Return the cost if every example became a support vector, since their number is only known after training.

    Training visits every pair of examples. Epoch e of E has e / E of the examples, so the mean number of pairs over the
    epochs is a third of that in the last epoch. With shifts, the second fit visits the pairs of all copies too.
    """
    n_pairs_of_classes = data.n_classes * (data.n_classes - 1) // 2
    n_features, n_components = data.n_features, int(parameters.get("n_components", data.n_features))
    n_dimensions, is_projected = min(n_components, n_features), n_components < n_features
    n_copies = 1 + len(_MOVES[str(parameters["shifts"])])
    n_pairs = data.n_train**2 * (n_copies**2 + (n_copies > 1))
    projection = n_features * n_dimensions if is_projected else 0
    if parameters["kernel"] == "linear":
        n_numbers, per_image = (n_features + 1) * n_pairs_of_classes, n_features * n_pairs_of_classes
    else:
        n_vectors = n_copies * data.n_train
        n_numbers = n_vectors * (n_pairs_of_classes + n_dimensions) + n_pairs_of_classes + projection
        per_image = n_vectors * (n_pairs_of_classes + n_dimensions) + projection
    train_flops = 2 * n_dimensions * n_pairs // 3
    return Description(n_numbers, 2 * per_image, train_flops, train_flops + 2 * per_image * data.n_valid)


MODEL = SklearnModel(
    hyperparameters={
        "kernel": Choice("rbf", ("rbf", "linear")),
        "C": Number(float, default=1.0, low=0, high=1e9, low_open=True),
        "gamma": Number(float, default=0.02, low=0, high=1e6, low_open=True),
        "deskew": Choice("no", ("no", "yes")),
        "shifts": Choice("none", tuple(_MOVES)),
        # None: the distances are those of the pixels.
        "n_components": Number(int, default=None, low=1, high=1_000_000),
    },
    fit=fit,
    scores=scores,
    check=check,
    describe=describe,
    images="shaped",
)
