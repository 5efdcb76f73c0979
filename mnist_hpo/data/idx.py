"""IDX files: MNIST's own format, gzipped or not."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"


def find_idx(folder: Path, name: str) -> Path:
    """Finds the file `name` in a folder, under any of the names that it goes by.

    Raises:
        UserError: the folder or the file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    # train-images-idx3-ubyte is the archive's name, train-images.idx3-ubyte what some unpackers make of it.
    names = [plain + suffix for plain in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"{folder}: no {name} in this folder (looked for {', '.join(names)})")


def read_idx(path: Path, expected_sha256: str) -> NDArray[np.uint8]:
    """Reads an IDX file of bytes and checks it first.

    Args:
        path: the file; gzip is recognised by its content.
        expected_sha256: digest of the uncompressed file.

    Returns:
        uint8, in the shape that the file states: [n] for labels, [n, height, width] for images. Read-only.

    Raises:
        UserError: the file cannot be read or unpacked, or is another file than the expected one.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected_sha256:
        raise UserError(
            f"{path}: wrong digest, the file is damaged or another one\n"
            f"  expected SHA-256 (uncompressed) {expected_sha256}\n"
            f"  found                           {found}"
        )
    n_dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=n_dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_dimensions).reshape(shape)


def idx_sha256(array: NDArray[np.uint8]) -> str:
    """Digest of the IDX file that holds this array: the inverse of what `read_idx` checks."""
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
