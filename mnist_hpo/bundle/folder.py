"""Read the files of a model's folder, and check their names, sizes and digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mnist_hpo.bundle.writing import DESCRIPTION, DESCRIPTION_SHA256, FILES, description_sha256
from mnist_hpo.spec.errors import UserError, shown

_MAX_DESCRIPTION_BYTES = 4_000_000
_MAX_FILE_BYTES = 4 * 1024**3
"""Far more than any model of small images has, and less than the memory of most machines."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OLD_WEIGHTS_SHA256 = "weights_sha256"
"""The field with the digest of the weights, up to format 4."""


def read_folder(directory: Path, *, newest: int, old_weights: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the description, and the content of all other files by name.

    Args:
        directory: the folder.
        newest: the newest format that is supported.
        old_weights: the name of the file of weights up to format 4.

    Raises:
        UserError: the format is newer, or a file is changed, missing, unexpected or no regular file.
        OSError, ValueError, KeyError, TypeError: the description is missing or malformed.

    """
    description = _read_description(directory)
    _check_format(description, newest)
    recorded = description.get(DESCRIPTION_SHA256)
    if description["format"] < 5:
        _check_unexpected(directory, {old_weights})
        return description, {old_weights: _old_weights(directory, description, old_weights, recorded)}
    _check_digest(DESCRIPTION, recorded, description_sha256(description))
    listed = description.get(FILES)
    if not isinstance(listed, dict):
        raise TypeError(f"{DESCRIPTION} has no list of files")
    _check_names(directory, listed)
    return description, {name: _read_listed(directory, name, entry) for name, entry in listed.items()}


def _read_description(directory: Path) -> dict[str, Any]:
    content = _read(directory, DESCRIPTION, _MAX_DESCRIPTION_BYTES)
    try:
        description: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{DESCRIPTION} is not JSON: {error}") from None
    if not isinstance(description, dict):
        raise TypeError(f"{DESCRIPTION} is not a JSON object")
    return description


def _check_format(description: dict[str, Any], newest: int) -> None:
    number = description.get("format")
    if type(number) is not int or number < 1:
        raise ValueError(f"{DESCRIPTION} has the format {shown(number)}")
    if number > newest:
        raise UserError(
            f"a model of format {number}, from a newer mnist-hpo; this version reads up to {newest}: upgrade mnist-hpo"
        )


def _check_names(directory: Path, listed: Mapping[str, Any]) -> None:
    for name in listed:
        if not _NAME.fullmatch(name) or name == DESCRIPTION:
            raise ValueError(
                f"{DESCRIPTION} lists a file {name[:100]!r}, which is not the name of a file in the folder"
            )
    _check_unexpected(directory, listed.keys())


def _check_unexpected(directory: Path, expected: Iterable[str]) -> None:
    unexpected = sorted({entry.name for entry in os.scandir(directory)} - {*expected, DESCRIPTION})
    if unexpected:
        raise UserError(f"{unexpected[0]!r} does not belong to the model; remove it from the folder")


def _read_listed(directory: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    n_bytes, sha256 = entry["n_bytes"], entry["sha256"]
    if type(n_bytes) is not int or n_bytes < 0:
        raise ValueError(f"{DESCRIPTION} gives {name} {shown(n_bytes)} bytes")
    try:
        content = _read(directory, name, min(n_bytes, _MAX_FILE_BYTES))
    except FileNotFoundError:
        raise UserError(f"{name} is missing; restore the folder, or train the model again") from None
    _check_digest(name, sha256, hashlib.sha256(content).hexdigest())
    return content


def _read(directory: Path, name: str, max_bytes: int) -> bytes:
    """Read a regular file of at most this many bytes; a link could lead out of the folder."""
    path = directory / name
    if not stat.S_ISREG(path.lstat().st_mode):
        raise UserError(f"{name} is not a regular file; a model's folder contains no links")
    # The file may have been replaced since: a link is not followed, and a pipe without a writer is not waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > max_bytes:
            raise UserError(f"{name} has {n_bytes:,} bytes, more than {max_bytes:,}; restore the folder")
        return file.read(n_bytes)


def _check_digest(name: str, recorded: object, found: str) -> None:
    if recorded != found:
        raise UserError(
            f"{name} has changed since the model was written (its SHA-256 is {found[:12]}…, {DESCRIPTION} says "
            f"{str(recorded)[:12]}…); restore the folder, or train the model again"
        )


def _old_weights(directory: Path, description: dict[str, Any], name: str, recorded: object) -> bytes:
    """Read the weights of a folder of format 1 to 4. Digests are checked where any is recorded: only format 1 has none,
    and a changed format number must not disable the check."""
    content = _read(directory, name, _MAX_FILE_BYTES)
    if description["format"] > 1 or recorded or description.get(_OLD_WEIGHTS_SHA256):
        # First the description, since it contains the digest of the weights.
        _check_digest(DESCRIPTION, recorded, description_sha256(description))
        _check_digest(name, description.get(_OLD_WEIGHTS_SHA256), hashlib.sha256(content).hexdigest())
    return content
