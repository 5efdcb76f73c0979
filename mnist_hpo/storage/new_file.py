"""Create a file atomically: no other process ever sees it incomplete."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_TIMEOUT_S = 60


def creation_lock(path: Path) -> FileLock:
    """Return the lock for creating or migrating a file. Its lock file, PATH.lock, is kept."""
    return FileLock(path.with_name(f"{path.name}.lock"), timeout=_TIMEOUT_S)


def create_atomically(path: Path, make: Callable[[Path], None]) -> None:
    """Create a file under a temporary name and rename it when it is complete. Do nothing if it exists.

    Processes that create the same file take turns. Temporary files of killed processes are removed.

    Args:
        path: the file; its folder exists.
        make: creates and closes the file at the path that it is given.

    Raises:
        OSError: the file cannot be created, or another process has been creating it for a minute.

    """
    if path.exists():
        return
    with creation_lock(path):
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
    """Remove all PATH.PID.new and SQLite's files beside them. The caller holds the lock, so no process uses them."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.new*"):
        leftover.unlink(missing_ok=True)
