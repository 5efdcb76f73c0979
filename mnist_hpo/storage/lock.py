"""One coordinator a study: a lock that the system frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

import sqlalchemy

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.connect import check_url, local_file, told_clearly

_HOLDER = """SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32) | l.objid::bigint = :key"""


@contextlib.contextmanager
def study_lock(url: str, name: str) -> Generator[None]:
    """Hold a study as long as the context lasts.

    A storage on this machine is locked by a file beside it; PostgreSQL by an advisory lock of a connection, so that
    coordinators on two machines exclude each other too.

    Raises:
        UserError: another coordinator holds it (the message says which), or there can be no such storage.

    """
    if sqlalchemy_backend(url) == "postgresql":
        with _advisory_lock(url, name):
            yield
    else:
        with _file_lock(url, name):
            yield


def is_held(url: str, name: str) -> bool:
    """Whether a coordinator holds a study now. To ask never keeps one from starting for longer than the call itself.

    Raises:
        UserError: the storage cannot be reached.

    """
    if sqlalchemy_backend(url) == "postgresql":
        with told_clearly(url):
            engine = sqlalchemy.create_engine(url)
            try:
                with engine.connect() as connection:
                    return bool(connection.scalar(sqlalchemy.text(f"SELECT EXISTS ({_HOLDER})"), {"key": _key(name)}))
            finally:
                engine.dispose()
    try:
        descriptor = os.open(_lock_file(url, name), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sqlalchemy_backend(url: str) -> str:
    """The kind of database behind a storage URL, such as postgresql."""
    return url.partition(":")[0].partition("+")[0]


def _lock_file(url: str, name: str) -> Path:
    storage = local_file(url)
    if storage is None:
        # A server of another kind: at least two coordinators on this machine exclude each other.
        storage = Path("mlruns") / hashlib.sha256(url.encode()).hexdigest()[:16]
    return storage.with_name(f"{storage.name}.locks") / f"{name}.lock"


@contextlib.contextmanager
def _file_lock(url: str, name: str) -> Generator[None]:
    with told_clearly(url):
        check_url(url)
        path = _lock_file(url, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(name, path.read_text()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _holder().encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _advisory_lock(url: str, name: str) -> Generator[None]:
    key = _key(name)
    with told_clearly(url):
        engine = sqlalchemy.create_engine(url, connect_args={"application_name": _holder()[:63]})
        connection = engine.connect()
    try:
        with told_clearly(url):
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
    except ValueError:
        who = "another process"
    return UserError(f"the study {name!r} is being run already, by {who}; wait for it, or stop it, then run again")
