"""The sizes of a dataset, without its data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DataShape:
    """The sizes of a dataset's split. The shapes and the cost of a model depend on nothing else of the data."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    n_classes: int
    n_train: int
    """Number of training examples."""
    n_valid: int
    """Number of validation examples, evaluated after each epoch."""

    @property
    def n_features(self) -> int:
        """Number of values in one image."""
        return math.prod(self.image_shape)
