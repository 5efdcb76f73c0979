"""Lock a file by itself: the lock belongs to the inode, so neither another name nor another URL gets around it."""

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
"""Open descriptors that hold no lock now. They are never closed: closing any descriptor of an SQLite database drops the
locks that SQLite itself holds on the file in this process."""

os.register_at_fork(after_in_child=_idle.clear)  # A lock of a shared descriptor would be the parent's too.


def file_id(path: Path) -> FileId:
    """The device and inode of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def byte_lock(path: Path, key: str) -> Generator[bool]:
    """Try to lock a key of a file, and yield at once whether this succeeded.

    The lock is an open-file-description lock on one byte far beyond the end of the file, where SQLite locks nothing;
    which byte follows from the key. The kernel frees it when the process ends, however it ends. Over NFS it excludes
    other machines too.

    Args:
        path: the file, which exists and is writable.
        key: what of the file is locked; other keys stay free.

    Raises:
        OSError: the file cannot be opened, or its file system has no such locks.

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
    """Whether somebody holds the `byte_lock` of this key of a file. Takes no lock to find out.

    Raises:
        OSError: the file cannot be opened, or its file system has no such locks.

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
    """The C library's `struct flock` for one byte."""
    length = 1
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
