"""The types that a model file exports as `MODEL`. Imports neither JAX nor scikit-learn, so study checks are fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.operations import Operation
from mnist_hpo.spec.parameter import Parameter, ParameterSet

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by name, as stored in a safetensors file."""


@dataclass(frozen=True)
class Counts:
    """The size of a Flax model, computed from its shapes. A multiply-add is 2 FLOPs."""

    n_parameters: int
    """Number of trainable weights."""
    forward_flops: int
    """FLOPs of the products in the prediction of one example."""
    train_flops: int
    """FLOPs of the products in the training on one example: those of the prediction, and twice as many for the
    gradients, except that the first layer's input needs no gradient."""


@dataclass(frozen=True)
class Description:
    """The cost of a training, as integers that are the same on any machine."""

    n_parameters: int
    """Number of trainable weights; an upper bound if the number depends on the data."""
    flops: int
    """FLOPs of the products in the prediction of one example."""
    train_flops: int
    """Model FLOPs of one epoch of training."""
    epoch_cost: int
    """Units of virtual time that an epoch takes, including its validation."""


@dataclass(frozen=True)
class FlaxModel:
    """A Flax module, trained by stochastic gradient descent."""

    hyperparameters: Mapping[str, Parameter]
    """The hyperparameters that determine the module's shape. They are static: a new value needs a new compilation."""
    module: Callable[[], Callable[..., Any]]
    """Returns the `nnx.Module` class, or a function that builds a module. Called only where JAX may be imported.

    The class takes `(input_shape, n_classes, hyperparameters, precision, *, rngs)`. The module is called with images
    f32[B, *input_shape] between 0 and 1 and with `dropout` (see `mnist_hpo.layers.dropout`), and returns logits
    f32[B, n_classes]."""
    images: Literal["flat", "shaped"] = "flat"
    """The shape of an image that the module takes: [n_features] or [height, width, channels]."""
    last_layer: str = "logits"
    """The module's attribute with the last layer, which `init_from` can re-initialise (`layers: all_but_last`)."""
    counts: Callable[[tuple[int, ...], int, ParameterSet], Counts] | None = None
    """Computes the counts in closed form from (input_shape, n_classes, hyperparameters). If None, the counts come from
    abstract evaluation, which imports JAX and takes up to 0.1 s for each new architecture."""
    operations: Callable[[ParameterSet, Tensors], list[Operation]] | None = None
    """Maps (hyperparameters, arrays) to the operations from an image to the logits. If None, the model cannot become
    a page."""

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the shape of one image as the module takes it."""
        return (math.prod(image_shape),) if self.images == "flat" else image_shape


@dataclass(frozen=True)
class SklearnModel:
    """A scikit-learn estimator. Each epoch fits a new one to a larger share of the training examples."""

    hyperparameters: Mapping[str, Parameter]
    fit: Callable[[NDArray[np.uint8], NDArray[np.uint8], int, ParameterSet], Tensors]
    """Maps (images, labels u8[E], n_classes, hyperparameters) to the arrays that `scores` needs.
    Must be deterministic and single-threaded. Some classes may have no label."""
    scores: Callable[[Tensors, NDArray[np.uint8], ParameterSet], NDArray[np.float64]]
    """Maps (arrays, images, hyperparameters) to a score for each class, f64[E, C], with NumPy only. The
    probabilities are the softmax of the scores at a temperature fitted to held-out examples."""
    describe: Callable[[DataShape, ParameterSet], Description]
    """Computes the cost from the split's sizes, where `n_train` is the number of examples that the last epoch trains
    on. The cost of an epoch is the mean over all epochs."""
    check: Callable[[Tensors, int, int, ParameterSet], None] | None = None
    """Takes (arrays, n_features, n_classes, hyperparameters) from a file, and raises a `ValueError` unless `fit` could
    have returned these arrays, so that `scores` neither fails nor takes much longer. None: they are only tried."""
    images: Literal["flat", "shaped"] = "flat"
    """The shape of the images that `fit` and `scores` take: u8[E, F] or u8[E, H, W, C]."""
    max_train_loss_examples: int | None = None
    """The training loss is the mean over at most this many of the examples; None for all. For models whose prediction
    takes longer than their training."""


Model = FlaxModel | SklearnModel
