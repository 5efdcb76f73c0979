"""Locks on a file's inode, so that neither another name nor another URL of the file avoids them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

FileId = tuple[int, int]
"""Device and inode."""

_idle: defaultdict[FileId, list[int]] = defaultdict(list)
"""Open descriptors without a lock. They are never closed, because closing any descriptor of an SQLite database would
release the locks that SQLite itself holds on the file in this process."""

os.register_at_fork(after_in_child=_idle.clear)  # Parent and child would share a lock on an inherited descriptor.


def file_id(path: Path) -> FileId:
    """Return the device and inode of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def byte_lock(path: Path, key: str) -> Generator[bool]:
    """Try to lock a key of a file without waiting, and yield whether this succeeded.

    The lock is an open-file-description lock on one byte far beyond the end of the file, where SQLite locks nothing.
    The key determines the byte. The kernel releases the lock when the process exits for any reason. Over NFS it
    excludes other machines too.

    Args:
        path: the file, which exists and is writable.
        key: names the lock; locks with other keys are independent.

    Raises:
        OSError: the file cannot be opened, or its file system does not support such locks.

    """
    start = _lock_start(key)
    descriptor = _descriptor(path)
    try:
        while (locked := _set_lock(descriptor, fcntl.F_WRLCK, start)) and _id_of(descriptor) != file_id(path):
            # The file was replaced after it was opened.
            _release(descriptor, start)
            descriptor = _descriptor(path)
        yield locked
    finally:
        _release(descriptor, start)


def is_locked(path: Path, key: str) -> bool:
    """Return whether a process holds the `byte_lock` with this key of a file. This takes no lock.

    Raises:
        OSError: the file cannot be opened, or its file system does not support such locks.

    """
    descriptor = _descriptor(path)
    try:
        request = _flock(fcntl.F_WRLCK, _lock_start(key))
        (kind,) = struct.unpack_from("h", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))
        return kind != fcntl.F_UNLCK
    finally:
        _idle[_id_of(descriptor)].append(descriptor)


def _lock_start(key: str) -> int:
    return 2**62 + int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")


def _descriptor(path: Path) -> int:
    idle = _idle[file_id(path)]
    return idle.pop() if idle else os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _release(descriptor: int, start: int) -> None:
    _set_lock(descriptor, fcntl.F_UNLCK, start)
    _idle[_id_of(descriptor)].append(descriptor)


def _id_of(descriptor: int) -> FileId:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _set_lock(descriptor: int, kind: int, start: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(kind, start))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _flock(kind: int, start: int) -> bytes:
    """Return the C library's `struct flock` for one byte."""
    length = 1
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
