"""The weights of the best epoch in a checkpoint, for whoever makes a model of them. Loads no JAX: a coordinator can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

PREFIX = "best/"
"""Of their names in a checkpoint."""


def load_best_parameters(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read them from a checkpoint, by name.

    Raises:
        FileNotFoundError: there is no such checkpoint.

    """
    return best_weights(load_file(path))


def best_weights(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Pick them from a checkpoint's tensors, by name."""
    return {name.removeprefix(PREFIX): weight for name, weight in tensors.items() if name.startswith(PREFIX)}
