"""The model of the best epoch in a checkpoint, for whoever makes a bundle of it. Loads no JAX: a coordinator can."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import load_file

from mnist_hpo.spec.model import Tensors

PREFIX = "best/"
"""In front of its tensors' names in a checkpoint."""


def load_best_model(path: Path) -> Tensors:
    """Read it from a checkpoint, by name.

    Raises:
        FileNotFoundError: there is no such checkpoint.

    """
    return best_model(load_file(path))


def best_model(tensors: Tensors) -> Tensors:
    """Pick it from a checkpoint's tensors, by name."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
