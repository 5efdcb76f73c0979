"""What a family of learners does: workers and bundles know nothing else of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Tensors

State = Any
"""All that a learner's next epoch depends on, beside its configuration and data. Each family has its own."""


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
        """The sizes, where these are the examples to learn from."""
        _, height, width, channels = self.images.shape
        return DataShape((height, width, channels), n_classes, n_train=len(self), n_valid=n_valid)


class Advanced(NamedTuple):
    """One epoch of training."""

    state: State
    train_loss: float
    """Mean cross-entropy over the examples of the epoch; not finite where the training has diverged."""
    train_s: float
    """Seconds in training alone, without compiling and the host's preparation."""


class Learner(Protocol):
    """One training of one configuration on one set of examples."""

    @property
    def compile_s(self) -> float:
        """Seconds spent in compiling so far, by this and other learners of the process."""
        ...

    def start(self) -> State:
        """The state before the first epoch."""
        ...

    def advance(self, state: State, epoch: int) -> Advanced:
        """Train for one unit of fidelity: an epoch, or with a larger share of the examples than before.

        Args:
            state: used up.
            epoch: which one, counted from 1.

        """
        ...

    def predict(self, state: State, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[E, C] of images u8[E, H, W, C]."""
        ...

    def model(self, state: State) -> Tensors:
        """Copy what prediction needs, by name: the part of the state that a bundle holds."""
        ...

    def save(self, state: State) -> Tensors:
        """The whole state, by name."""
        ...

    def load(self, tensors: Tensors) -> State:
        """The state that `save` was given.

        Raises:
            KeyError: a tensor is missing.

        """
        ...


class Predictor(Protocol):
    """A trained model."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[E, C] of images u8[E, H, W, C]."""
        ...
