"""Replace a folder by a new one only when the new one is whole."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What a file system or kernel answers that cannot exchange two names."""


@contextlib.contextmanager
def replacing(folder: Path) -> Generator[Path]:
    """Yield an empty folder beside a folder, and put it in that one's place when the context ends without an error.

    Whenever the process is killed, the old folder or the new one is there as a whole. What killed processes left behind
    in the same parent is removed here, so one process at a time may replace folders there: hold the study's lock.

    Raises:
        OSError: the folder cannot be created or replaced.

    """
    new, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder.parent)
    new.mkdir()
    try:
        yield new
        if not folder.exists():
            new.rename(folder)
        elif not _exchange(new, folder):
            folder.rename(old)
            new.rename(folder)
    finally:
        _recover(folder.parent)


def _recover(parent: Path) -> None:
    """Put back what was about to be replaced, where its successor is not there; remove everything else."""
    for old in parent.glob(".*.old"):
        folder = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if not folder.exists():
            old.rename(folder)
    for leftover in [*parent.glob(".*.old"), *parent.glob(".*.new")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return whether the system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))
