"""Write a folder so that a crash leaves the old one or the new one, never a mixture."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""Of Linux's renameat2."""
_RENAME_SWAP = 2
"""Of macOS's renamex_np."""


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name into a new folder and put it at `directory`, in place of what is there.

    One process at a time may write a folder: the new one is built at a fixed path beside it, so that the next call
    removes what a crash left behind.

    Raises:
        OSError: it cannot be written; what was there is unchanged.

    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = directory.with_name(f".{directory.name}.new")
    remove(new)
    try:
        new.mkdir()
        for name, content in files.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(new)
        put_in_place(new, directory)
    finally:
        remove(new)


def put_in_place(new: Path, directory: Path) -> None:
    """Rename a folder to `directory`; what is there is deleted after the new folder has taken its place.

    Raises:
        OSError: it cannot be renamed; both are unchanged.

    """
    try:
        new.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        _exchange(new, directory)
        remove(new)  # This path holds the old one now.
    _sync_folder(directory.parent)


def remove(path: Path) -> None:
    """Delete a folder, a file or a link, if there is one.

    Raises:
        OSError: it cannot be deleted.

    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> None:
    """Swap what two paths name, in one step where the system can do it."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _RENAME_SWAP) != 0
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0
    else:
        failed = True
        ctypes.set_errno(errno.ENOSYS)
    if not failed:
        return
    code = ctypes.get_errno()
    if code not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(second))
    # A file system that cannot exchange, such as NFS: in two steps.
    old = second.with_name(f".{second.name}.old")
    remove(old)
    second.rename(old)
    first.rename(second)
    old.rename(first)


def _sync_folder(directory: Path) -> None:
    """Make the names in a folder outlast a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
