"""What a model file exports as `MODEL`. Loads neither JAX nor scikit-learn, so that a study file is checked quickly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.parameter import Parameter, ParameterSet

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by name, as they are stored in a safetensors file."""


@dataclass(frozen=True)
class Counts:
    """The size of a Flax model, as integers that follow from its shapes. A multiply-add is 2 FLOPs."""

    n_parameters: int
    """How many numbers training learns."""
    forward_flops: int
    """Of the products in one example's prediction."""
    train_flops: int
    """Of the products in one example's training: those of the prediction, and twice as many for the gradients; the
    first layer's input needs no gradient."""


@dataclass(frozen=True)
class Description:
    """What a training costs, as integers that are the same on any machine."""

    n_parameters: int
    """How many numbers training learns; where the data decide that, the most that it can be."""
    flops: int
    """Of the products in one example's prediction."""
    train_flops: int
    """Model FLOPs of one epoch of training."""
    epoch_cost: int
    """Units of virtual time that an epoch takes, its validation included."""


@dataclass(frozen=True)
class FlaxModel:
    """A Flax module, trained by stochastic gradient descent."""

    hyperparameters: Mapping[str, Parameter]
    """What shapes the module. They are static: another value is another compile."""
    module: Callable[[], Callable[..., Any]]
    """Returns the `nnx.Module` class, or a function that builds one; called where JAX may be loaded.

    It takes `(input_shape, n_classes, hyperparameters, precision, *, rngs)`. The module is called with images
    f32[B, *input_shape] between 0 and 1 and with `dropout` (see `mnist_hpo.layers.dropout`), and returns logits
    f32[B, n_classes]."""
    images: Literal["flat", "shaped"] = "flat"
    """Whether an image is [n_features] or [height, width, channels] for the module."""
    counts: Callable[[tuple[int, ...], int, ParameterSet], Counts] | None = None
    """The counts in closed form, from (input_shape, n_classes, hyperparameters); None: by abstract evaluation, which
    loads JAX and takes up to a tenth of a second for each new architecture."""

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """The shape of one image as the module takes it."""
        return (math.prod(image_shape),) if self.images == "flat" else image_shape


@dataclass(frozen=True)
class SklearnModel:
    """An estimator of scikit-learn that is fitted as a whole, on a share of the examples that grows by the epoch."""

    hyperparameters: Mapping[str, Parameter]
    fit: Callable[[NDArray[np.uint8], NDArray[np.uint8], int, ParameterSet], Tensors]
    """From (images u8[E, F], labels u8[E], n_classes, hyperparameters) to the arrays that `scores` needs.
    Deterministic and single-threaded. The labels may lack classes."""
    scores: Callable[[Tensors, NDArray[np.uint8], ParameterSet], NDArray[np.float64]]
    """From (arrays, images u8[E, F], hyperparameters) to a score of each class, f64[E, C], by NumPy alone. Their
    softmax, at a temperature that is fitted to examples held back, gives the probabilities."""
    describe: Callable[[DataShape, ParameterSet], Description]
    """The cost from the split's sizes, where `n_train` is the number of examples that the last epoch trains on. An
    epoch's cost is the mean over all epochs."""


Model = FlaxModel | SklearnModel
