"""The sizes of a dataset, apart from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DataShape:
    """The sizes of a dataset's split: all that a model's shapes and costs depend on."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    n_classes: int
    n_train: int
    """Examples to learn from."""
    n_valid: int
    """Examples to validate on after each epoch."""

    @property
    def n_features(self) -> int:
        """Numbers of an image."""
        return math.prod(self.image_shape)
