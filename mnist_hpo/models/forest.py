"""A forest of decision trees: random forest or extremely randomised trees, by scikit-learn.

Breiman, "Random Forests" (2001); Geurts, Ernst & Wehenkel, "Extremely randomized trees" (2006). The probability of a
class is the mean over the trees of its share in the leaf that the image falls into.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.deskew import deskew
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Description, SklearnModel, Tensors
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet
from mnist_hpo.spec.tensor_layout import check_layout, check_range

_CHUNK = 1000
"""Images in memory at a time, with one node per tree each."""
_MAX_LEVELS = 10_000
"""The most comparisons from a root to a leaf, where `max_depth` sets no limit."""


def fit(images: NDArray[np.uint8], labels: NDArray[np.uint8], n_classes: int, parameters: ParameterSet) -> Tensors:
    """Grow the trees on images u8[E, H, W, C]; see `SklearnModel.fit`.

    Returns:
        The nodes of all trees, one after the other: `feature` i32[N], the pixel that a node compares, and `threshold`
        u8[N]; `children` i32[N, 2], the node for a pixel at most as large as the threshold and that for a larger one,
        where a leaf is its own child; `leaf` i32[N], a leaf's row in `shares` f32[S, C], the shares of the classes in a
        leaf; equal shares have the same row. `roots` i32[T], the first node of each tree; `n_levels`, the largest
        number of comparisons.

    """
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    family = RandomForestClassifier if parameters["trees"] == "random" else ExtraTreesClassifier
    names = ("criterion", "max_depth", "max_features")
    options: dict[str, Any] = {name: parameters[name] for name in names if name in parameters}
    if "max_features" in options:
        options["max_features"] = float(options["max_features"])  # 1 would mean a single pixel.
    forest = family(
        n_estimators=int(parameters["n_trees"]),
        min_samples_leaf=int(parameters["min_samples_leaf"]),
        random_state=0,
        **options,
    ).fit(_features(images, parameters), labels)
    return _arrays([estimator.tree_ for estimator in forest.estimators_], forest.classes_, n_classes)


def _arrays(trees: Sequence[Any], classes: NDArray[np.uint8], n_classes: int) -> Tensors:
    """Return the arrays of `fit` from scikit-learn's trees, whose classes are numbered by the labels that occur."""
    sizes = np.array([tree.node_count for tree in trees])
    roots = np.cumsum(sizes) - sizes
    offset = np.repeat(roots, sizes)
    left, right, feature, threshold = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("children_left", "children_right", "feature", "threshold")
    )
    is_leaf, own = left < 0, np.arange(len(left))
    children = np.where(is_leaf[:, None], own[:, None], np.stack([left, right], axis=1) + offset[:, None])
    leaves = np.concatenate([tree.value[tree.children_left < 0, 0] for tree in trees])
    shares = np.zeros((len(leaves), n_classes), np.float32)
    shares[:, classes] = leaves / leaves.sum(axis=1, keepdims=True)
    # Most leaves hold a single class.
    shares, rows = np.unique(shares, axis=0, return_inverse=True)
    leaf = np.zeros(len(left), np.int32)
    leaf[is_leaf] = rows
    return {
        "feature": np.where(is_leaf, 0, feature).astype(np.int32),
        # Pixels are whole numbers, and so are the comparisons' results with the thresholds rounded down.
        "threshold": np.where(is_leaf, 0, np.floor(threshold)).astype(np.uint8),
        "children": children.astype(np.int32),
        "leaf": leaf,
        "shares": shares,
        "roots": roots.astype(np.int32),
        "n_levels": np.array(max(tree.max_depth for tree in trees)),
    }


def scores(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the logarithm of the classes' probabilities f64[E, C] of images u8[E, H, W, C].

    A class's probability is smoothed as if another tree gave the same probability to all classes.
    """
    found = np.empty((len(images), tensors["shares"].shape[1]))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        found[rows] = probabilities(tensors, images[rows], parameters)
    n_trees, n_classes = len(tensors["roots"]), found.shape[1]
    return np.log((n_trees * found + 1 / n_classes) / (n_trees + 1))


def probabilities(tensors: Tensors, images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.float64]:
    """Return the mean over the trees of the classes' shares, f64[E, C], like `RandomForestClassifier.predict_proba`."""
    pixels = _features(images, parameters)
    total = np.zeros((len(pixels), tensors["shares"].shape[1]))
    node = np.tile(tensors["roots"], (len(pixels), 1))
    for _ in range(int(tensors["n_levels"])):
        is_larger = np.take_along_axis(pixels, tensors["feature"][node], axis=1) > tensors["threshold"][node]
        node = tensors["children"][node, is_larger.astype(np.int8)]
    for leaves in tensors["leaf"][node].T:
        total += tensors["shares"][leaves]
    return total / node.shape[1]


def _features(images: NDArray[np.uint8], parameters: ParameterSet) -> NDArray[np.uint8]:
    prepared = deskew(images) if parameters["deskew"] == "yes" else images
    return prepared.reshape(len(images), math.prod(images.shape[1:]))


def check(tensors: Tensors, n_features: int, n_classes: int, parameters: ParameterSet) -> None:
    """Check the arrays of a file; see `SklearnModel.check`."""
    layout = {
        **{"feature": "int N", "threshold": "int N", "children": "int N 2", "leaf": "int N"},
        **{"shares": "float S C", "roots": "int T", "n_levels": "int"},
    }
    sizes = check_layout(tensors, layout, {"C": n_classes, "T": int(parameters["n_trees"]), "2": 2})
    n_nodes = sizes["N"]
    check_range(tensors, "feature", 0, n_features)
    check_range(tensors, "children", 0, n_nodes)
    check_range(tensors, "roots", 0, n_nodes)
    check_range(tensors, "leaf", 0, sizes["S"])
    # A tree with n nodes has at most (n - 1) / 2 levels of comparisons.
    check_range(tensors, "n_levels", 0, min(n_nodes // 2, _MAX_LEVELS) + 1)
    if (tensors["shares"] < 0).any() or not (np.diff(tensors["roots"]) > 0).all():
        raise ValueError("the shares are negative, or two trees have the same root")


def describe(data: DataShape, parameters: ParameterSet) -> Description:
    """Return the cost if every tree grew until each leaf has the smallest number of examples, as a binary tree.

    Each level of a tree compares every example in each of the features that are tried. A comparison counts as a FLOP.
    Epoch e of E has e / E of the examples, half of them on average.
    """
    n_trees, n_features = int(parameters["n_trees"]), data.n_features
    share = parameters.get("max_features")
    n_tried = math.isqrt(n_features) if share is None else max(1, int(float(share) * n_features))
    n_leaves = max(1, data.n_train // int(parameters["min_samples_leaf"]))
    n_levels = n_leaves.bit_length()
    if "max_depth" in parameters:
        n_levels = min(n_levels, int(parameters["max_depth"]))
        n_leaves = min(n_leaves, 2**n_levels)
    n_numbers = n_trees * (n_leaves * data.n_classes + 4 * (n_leaves - 1))
    train_flops = n_trees * n_levels * n_tried * data.n_train // 2
    flops = n_trees * (n_levels + data.n_classes)
    return Description(n_numbers, flops, train_flops, train_flops + flops * data.n_valid)


MODEL = SklearnModel(
    hyperparameters={
        "trees": Choice("random", ("random", "extra")),
        "n_trees": Number(int, default=100, low=1, high=100_000),
        "criterion": Choice("gini", ("gini", "entropy")),
        # None: a node is split until its examples are of one class.
        "max_depth": Number(int, default=None, low=1, high=_MAX_LEVELS),
        # The share of the pixels that are tried at each node. None: the square root of their number.
        "max_features": Number(float, default=None, low=0, high=1, low_open=True),
        "min_samples_leaf": Number(int, default=1, low=1, high=100_000_000),
        "deskew": Choice("no", ("no", "yes")),
    },
    fit=fit,
    scores=scores,
    check=check,
    describe=describe,
    images="shaped",
)
