"""Replace a folder atomically: after a crash, either the old or the new folder is complete."""

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
"""Arguments of Linux's renameat2."""
_RENAME_SWAP = 2
"""Flag of macOS's renamex_np."""
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""Errors of a kernel or a file system, such as NFS, that cannot exchange two names."""


@contextlib.contextmanager
def replacing(folder: Path) -> Generator[Path]:
    """Yield an empty folder that replaces `folder` when the context exits without an error.

    If the process is killed at any time, either the old or the new folder is complete. The function also removes the
    temporary folders that killed processes left in the same parent, so only one process at a time may replace folders
    there: hold the study's lock.

    Raises:
        OSError: the folder cannot be created or replaced; the old folder is unchanged.

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
    """Write files by name to a folder, replacing the old folder; see `replacing`.

    Raises:
        OSError: the files cannot be written; the old folder is unchanged.

    """
    with replacing(folder) as new:
        for name, content in files.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(new)


def _recover(parent: Path) -> None:
    """Restore old folders whose replacement is missing, and remove all other temporary folders."""
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
    """Exchange two names atomically; return False if the system does not support it."""
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
    """Flush a folder's entries to disk, so that they survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
