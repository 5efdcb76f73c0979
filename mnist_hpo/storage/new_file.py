"""Create a file so that no other process ever sees it half made."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_TIMEOUT_S = 60


def lock_beside(path: Path) -> FileLock:
    """The lock of those who create or migrate a file. Its own file, PATH.lock, stays there."""
    return FileLock(path.with_name(f"{path.name}.lock"), timeout=_TIMEOUT_S)


def create_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Create a file under a temporary name and rename it when it is whole; do nothing where it is already.

    Processes that create the same file take turns. What a killed one left behind is removed.

    Args:
        path: the file; its folder exists.
        make: creates the file that it is given, and closes it.

    Raises:
        OSError: it cannot be created, or another process has been creating it for a minute.

    """
    if path.exists():
        return
    with lock_beside(path):
        _remove_temporary_files(path)
        if path.exists():
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            make(temporary)
            temporary.rename(path)
        finally:
            _remove_temporary_files(path)


def _remove_temporary_files(path: Path) -> None:
    """Remove PATH.PID.new and what SQLite keeps beside it. Whoever holds the lock owns them all."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.new*"):
        leftover.unlink(missing_ok=True)
