"""Replace a folder so that a crash leaves the old one or the new one, whole, never a mixture."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2."""
_RENAME_SWAP = 2
"""Of macOS's renamex_np."""
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""Answers of a kernel or a file system, such as NFS, that cannot exchange two names."""


@contextlib.contextmanager
def replacing(folder: Path) -> Generator[Path]:
    """Yield an empty folder beside a folder, and put it in that one's place when the context ends without an error.

    Whenever the process is killed, the old folder or the new one is there as a whole. What killed processes left behind
    in the same parent is removed here, so one process at a time may replace folders there: hold the study's lock.

    Raises:
        OSError: the folder cannot be created or replaced; what was there is unchanged.

    """
    new, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder.parent)
    new.mkdir()
    try:
        yield new
        if not os.path.lexists(folder):
            new.rename(folder)
        elif not _exchange(new, folder):
            folder.rename(old)
            new.rename(folder)
        _sync_folder(folder.parent)
    finally:
        _recover(folder.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name into a new folder and put it in the place of what is there; see `replacing`.

    Raises:
        OSError: it cannot be written; what was there is unchanged.

    """
    with replacing(folder) as new:
        for name, content in files.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(new)


def _recover(parent: Path) -> None:
    """Put back what was about to be replaced, if its successor is not there; remove everything else."""
    for old in parent.glob(".*.old"):
        folder = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if not os.path.lexists(folder):
            old.rename(folder)
    for leftover in [*parent.glob(".*.old"), *parent.glob(".*.new")]:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; return whether the system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _RENAME_SWAP) != 0
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(second))
    return not failed


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
