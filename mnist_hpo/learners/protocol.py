"""The interface of a family of learners, which is all that workers and bundles use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Tensors

State = Any
"""All that the next epoch depends on beside the configuration and the data. Each family has its own type."""


@dataclass(frozen=True)
class Examples:
    """Labelled images, in memory or memory-mapped."""

    images: NDArray[np.uint8]
    """u8[E, H, W, C]"""
    labels: NDArray[np.uint8]
    """u8[E]"""

    def __len__(self) -> int:
        return len(self.labels)

    def shape(self, n_classes: int, n_valid: int) -> DataShape:
        """Return the sizes of the data, if these are the training examples."""
        _, height, width, channels = self.images.shape
        return DataShape((height, width, channels), n_classes, n_train=len(self), n_valid=n_valid)


class Advanced(NamedTuple):
    """One epoch of training."""

    state: State
    train_loss: float
    """Mean cross-entropy over the examples of the epoch; not finite if the training has diverged."""
    train_s: float
    """Seconds of training alone, without compiling and preparation on the host."""


class Learner(Protocol):
    """Trains one configuration on one set of examples."""

    @property
    def compile_s(self) -> float:
        """Seconds spent compiling so far, by this and the process's other learners."""
        ...

    def start(self) -> State:
        """Return the state before the first epoch."""
        ...

    def advance(self, state: State, epoch: int) -> Advanced:
        """Train for one unit of fidelity: an epoch, or a fit to a larger share of the examples than before.

        Args:
            state: the state before the epoch; it must not be used afterwards.
            epoch: the number of the epoch, counted from 1.

        """
        ...

    def predict(self, state: State, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[E, C] of images u8[E, H, W, C]."""
        ...

    def model(self, state: State) -> Tensors:
        """Return copies of the tensors that prediction needs, by name: the part of the state that a bundle stores."""
        ...

    def save(self, state: State) -> Tensors:
        """Return all tensors of the state, by name."""
        ...

    def load(self, tensors: Tensors) -> State:
        """Return the state from the tensors that `save` returned.

        Raises:
            KeyError: a tensor is missing.

        """
        ...


class Predictor(Protocol):
    """A trained model."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[E, C] of images u8[E, H, W, C]."""
        ...


PortablePredictor = Callable[[Mapping[str, Any], Any], Any]
"""A pure JAX function, free of kernel calls, from a model's arrays by name and images u8[E, F] to log-probabilities
f32[E, C]. E may be a symbolic size."""
