"""One coordinator a study: a lock that the system frees when its holder dies, however it dies."""

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
    """Hold a study as long as the context lasts.

    The lock is in the storage itself, which is created where it is not there yet: a lock on the file, whatever name it
    is reached by, or an advisory lock in PostgreSQL, so that coordinators on two machines exclude each other too.

    Raises:
        UserError: another process holds it (the message says which), or the storage cannot be opened.

    """
    address = parse_address(url)
    with _advisory_lock(address, name) if address.path is None else _file_lock(address, address.path, name):
        yield


def is_held(url: str, name: str) -> bool:
    """Whether another process holds a study now. Asking never keeps one from starting.

    Raises:
        UserError: the storage cannot be reached.

    """
    address = parse_address(url)
    if address.path is not None:
        with contextlib.suppress(OSError):  # Nobody holds a file that is not there or cannot be written.
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
            raise _held(name, _read(note))
        stack.enter_context(_noted(note))
        yield


@contextlib.contextmanager
def _noted(note: Path) -> Generator[None]:
    """Leave a note for the messages of other processes. The lock does not depend on it: it may be deleted any time."""
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
            raise _held(name, holder)
        yield
    finally:
        connection.close()
        engine.dispose()


def _advisory_holder(connection: sqlalchemy.Connection, key: int) -> str:
    return str(connection.scalar(sqlalchemy.text(_HOLDER), {"key": key}) or "")


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mnist-hpo {name}".encode()).digest()[:8], "big", signed=True)


def _holder() -> str:
    """Short: PostgreSQL keeps 63 bytes of an application's name."""
    return json.dumps([socket.gethostname()[:24], os.getpid(), int(time.time())], separators=(",", ":"))


def _held(name: str, holder: str) -> UserError:
    try:
        host, pid, start_unix_s = json.loads(holder)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start_unix_s))
        who = f"process {pid} on {host}, started {started}"
    except (TypeError, ValueError, OverflowError):
        who = "another process"
    return UserError(f"the study {name!r} is in use by {who}; wait until it ends, or stop it, then run this again")
