"""The lock of a study, which admits one coordinator. The system frees it whenever its holder exits, even if killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

import sqlalchemy

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.address import Address, parse_address
from mnist_hpo.storage.byte_lock import byte_lock, is_locked
from mnist_hpo.storage.connect import create_storage, user_errors

_HOLDER = """SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32) | l.objid::bigint = :key"""


@contextlib.contextmanager
def study_lock(url: str, name: str) -> Generator[None]:
    """Hold the lock of a study within the context.

    The lock is in the storage itself, which is created if it does not exist: a lock on the file's inode, or an advisory
    lock in PostgreSQL. So coordinators on two machines exclude each other too.

    Raises:
        UserError: another process holds the lock (the message says which), or the storage cannot be opened.

    """
    address = parse_address(url)
    with _advisory_lock(address, name) if address.path is None else _file_lock(address, address.path, name):
        yield


def is_held(url: str, name: str) -> bool:
    """Return whether another process holds the lock of a study now. This takes no lock, so it blocks no process.

    Raises:
        UserError: the storage cannot be reached.

    """
    address = parse_address(url)
    if address.path is not None:
        with contextlib.suppress(OSError):  # No process holds a file that does not exist or is not writable.
            return is_locked(address.path, name)
        return False
    with user_errors(address.shown):
        engine = sqlalchemy.create_engine(address.engine_url)
        try:
            with engine.connect() as connection:
                return bool(connection.scalar(sqlalchemy.text(f"SELECT EXISTS ({_HOLDER})"), {"key": _key(name)}))
        finally:
            engine.dispose()


@contextlib.contextmanager
def _file_lock(address: Address, path: Path, name: str) -> Generator[None]:
    create_storage(address)
    note = path.with_name(f"{path.name}.holders") / f"{name}.json"
    with contextlib.ExitStack() as stack:
        with user_errors(address.shown):
            locked = stack.enter_context(byte_lock(path, name))
        if not locked:
            raise _in_use_error(name, _read(note))
        stack.enter_context(_holder_note(note))
        yield


@contextlib.contextmanager
def _holder_note(note: Path) -> Generator[None]:
    """Write the holder to a file for other processes' error messages. The lock does not depend on the file."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(exist_ok=True)
        note.write_text(_holder())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
            note.parent.rmdir()


def _read(note: Path) -> str:
    try:
        return note.read_text()
    except (OSError, ValueError):
        return ""


@contextlib.contextmanager
def _advisory_lock(address: Address, name: str) -> Generator[None]:
    key = _key(name)
    with user_errors(address.shown):
        engine = sqlalchemy.create_engine(address.engine_url, connect_args={"application_name": _holder()[:63]})
        connection = engine.connect()
    try:
        with user_errors(address.shown):
            taken = connection.scalar(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
            holder = "" if taken else _advisory_holder(connection, key)
            connection.commit()
        if not taken:
            raise _in_use_error(name, holder)
        yield
    finally:
        connection.close()
        engine.dispose()


def _advisory_holder(connection: sqlalchemy.Connection, key: int) -> str:
    return str(connection.scalar(sqlalchemy.text(_HOLDER), {"key": key}) or "")


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mnist-hpo {name}".encode()).digest()[:8], "big", signed=True)


def _holder() -> str:
    """Return host, process id and start time as JSON. It is short: PostgreSQL keeps 63 bytes of an application name."""
    return json.dumps([socket.gethostname()[:24], os.getpid(), int(time.time())], separators=(",", ":"))


def _in_use_error(name: str, holder: str) -> UserError:
    try:
        host, pid, start_unix_s = json.loads(holder)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start_unix_s))
        who = f"process {pid} on {host}, started {started}"
    except (TypeError, ValueError, OverflowError):
        who = "another process"
    return UserError(f"the study {name!r} is in use by {who}; wait until it ends, or stop it, then run this again")
