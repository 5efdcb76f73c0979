"""Read and identify stored tensors. Imports no JAX, because the coordinator uses it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, load_file

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors

_MAX_HEADER_BYTES = 4_000_000
"""A hundred bytes for each tensor of the largest ensembles. Each takes ten times as much memory as in the header."""
_DTYPES = {np.dtype(name) for name in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")}


def read_tensors(content: bytes) -> Tensors:
    """Read the content of a safetensors file of unknown origin.

    Raises:
        ValueError: its header is too large, or it has a type that models do not use.
        SafetensorError: it is no such file.

    """
    n_bytes = int.from_bytes(content[:8], "little")
    if n_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"its header has {n_bytes:,} bytes, more than {_MAX_HEADER_BYTES:,}")
    try:
        tensors = load(content)
    except KeyError as error:  # In the library's table of types.
        raise ValueError(f"the type {error} is unsupported") from None
    for name, array in tensors.items():
        if array.dtype not in _DTYPES:
            raise ValueError(f"{name} is {array.dtype}, which is unsupported")
    return tensors


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
