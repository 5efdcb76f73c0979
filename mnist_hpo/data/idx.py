"""Read IDX files, the format of MNIST, gzipped or not."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy types by the type code in the third byte of a file."""


def find_idx(folder: Path, name: str, own_name: str | None = None) -> Path:
    """Find a file in a folder, under any of the usual spellings of its names; see `idx_names`.

    Args:
        folder: the folder.
        name: the name of the file in MNIST's distribution, such as `train-images-idx3-ubyte`.
        own_name: the name under which it is published, if that is another one.

    Raises:
        UserError: the folder or the file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = [*(idx_names(own_name) if own_name else ()), *idx_names(name)]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"{folder}: no {own_name or name} in this folder (looked for {', '.join(names)})")


def idx_names(name: str) -> list[str]:
    """Return the usual spellings of a file name: gzipped or not, and with `.idx`, which some unpackers write."""
    return [plain + suffix for plain in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]


def read_idx(path: Path, expected_sha256: str) -> NDArray[np.uint8]:
    """Read an IDX file of bytes after checking its digest.

    Args:
        path: the file; gzip is recognised by content.
        expected_sha256: digest of the uncompressed file.

    Returns:
        A read-only uint8 array: labels [n] or images [n, height, width].

    Raises:
        UserError: the file cannot be read or unpacked, or its digest is wrong.
    """
    data = _unpack(path)
    found = hashlib.sha256(data).hexdigest()
    if found != expected_sha256:
        raise UserError(
            f"{path}: wrong digest; the file is damaged, or is a different file\n"
            f"  expected SHA-256 (uncompressed) {expected_sha256}\n"
            f"  found                           {found}"
        )
    return _parse(data, path)


def read_any_idx(path: Path) -> NDArray[Any]:
    """Read an IDX file of unknown type, shape and digest.

    Returns:
        A read-only array with the dtype and shape from the file's header.

    Raises:
        UserError: the file cannot be read or unpacked, or is not an IDX file.
    """
    return _parse(_unpack(path), path)


def _unpack(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _parse(data: bytes, path: Path) -> NDArray[Any]:
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES or len(data) < 4 + 4 * data[3]:
        raise UserError(f"{path}: not an IDX file; it starts with the bytes {data[:4].hex(' ')}")
    n_dimensions, dtype = data[3], np.dtype(_DTYPES[data[2]])
    shape = np.frombuffer(data, ">u4", count=n_dimensions, offset=4).tolist()
    header_bytes, expected_bytes = 4 + 4 * n_dimensions, dtype.itemsize * math.prod(shape)
    if len(data) != header_bytes + expected_bytes:
        raise UserError(
            f"{path}: the header says {expected_bytes:,} bytes of shape {tuple(shape)}, but the file holds "
            f"{len(data) - header_bytes:,}; it is damaged"
        )
    return np.frombuffer(data, dtype, offset=header_bytes).reshape(shape)


def idx_sha256(array: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the uncompressed IDX file that would hold this array."""
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
