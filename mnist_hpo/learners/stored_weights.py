"""Weights that a training starts from, in a file of their own. Imports no JAX, since the coordinator writes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


def weights_sha256(tensors: Tensors) -> str:
    """Return a digest of the names, shapes, types and values of tensors, whatever file they come from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def read_weights(path: Path, sha256: str) -> Tensors:
    """Read weights from a safetensors file.

    Raises:
        UserError: the file is missing or damaged.

    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the weights to start from cannot be read: {error}") from None
    if weights_sha256(tensors) != sha256:
        raise UserError(f"{path}: the weights to start from have changed since they were written")
    return tensors
