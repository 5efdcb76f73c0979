"""Read and identify stored initial weights. Imports no JAX, because the coordinator uses it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


def weights_sha256(tensors: Tensors) -> str:
    """Return a digest of the names, shapes, dtypes and values of tensors. It does not depend on the file format."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def read_weights(path: Path, sha256: str) -> Tensors:
    """Read weights from a safetensors file, and check their digest.

    Raises:
        UserError: the file is missing or damaged.

    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: the initial weights are missing") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the initial weights cannot be read: {error}") from None
    if weights_sha256(tensors) != sha256:
        raise UserError(f"{path}: the initial weights have changed since they were written")
    return tensors
