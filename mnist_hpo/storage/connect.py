"""Open an Optuna storage by its URL."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.address import Address, parse_address, without_password
from mnist_hpo.storage.new_file import create_atomically, creation_lock

_ERRORS = (
    StorageInternalError,
    SQLAlchemyError,
    sqlite3.Error,
    OSError,
    ImportError,
    ValueError,
    RuntimeError,  # Raised by Optuna if another version created the tables.
)
_BUSY_TIMEOUT_S = 60
_ENGINE: dict[str, Any] = {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
_JOURNAL_GRACE_S = 5
"""After this time, the lock of a journal that a killed process left behind is removed."""
_TABLES_LOCK = int.from_bytes(b"mnisthpo", "big")


def open_storage(url: str, *, read_only: bool = False) -> BaseStorage:
    """Open an Optuna storage, and create it if it does not exist.

    Args:
        url: sqlite:///FILE, journal:///FILE or postgresql+psycopg://….
        read_only: a file that does not exist is an error rather than a new storage, and SQLite refuses to write.

    Raises:
        UserError: the storage cannot be opened.

    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address = parse_address(url)
    path = address.path
    if path is None:
        return _open_postgresql(address)
    if not read_only:
        create_storage(address)
    else:
        _require_file(address, path)
    with user_errors(url):
        if address.kind == "journal":
            lock = JournalFileSymlinkLock(str(path), grace_period=_JOURNAL_GRACE_S)
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        return _read_sqlite(address.engine_url) if read_only else _open_sqlite(address.engine_url, path)


def create_storage(address: Address) -> None:
    """Create a storage's file atomically if it does not exist.

    Raises:
        UserError: the file cannot be created, or is not a regular file with one name.

    """
    path = address.path
    assert path is not None
    _make_folder(path.parent, address)
    with user_errors(address.shown):
        if address.kind == "sqlite":
            create_atomically(path, _create_database)
        else:
            path.touch()
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"storage {address.shown}: {path} is not a regular file")
    if found.st_nlink > 1:
        # SQLite and Optuna keep more files beside the path, so two names would have separate ones.
        raise UserError(
            f"storage {address.shown}: {path} has {found.st_nlink} hard links, and writing through more than one of "
            "them would damage it; remove the others, or replace it with a copy"
        )


def address_for_reading(url: str) -> str:
    """Return a storage's address for Optuna's other tools: the path of a journal, or a URL.

    The URL of an SQLite storage is read-only, so that a click in a tool cannot change a record.

    Raises:
        UserError: the storage does not exist.

    """
    address = parse_address(url)
    path = address.path
    if path is None:
        return url
    _require_file(address, path)
    if address.kind == "journal":
        return str(path)
    return f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"


def _require_file(address: Address, path: Path) -> None:
    with user_errors(address.shown):
        is_there = path.exists()
    if is_there:
        return
    raise UserError(
        f"{address.shown}: there is no storage yet at {address.path}; run this in the project's folder, or name the "
        "storage with --storage (load_trials: storage=…); a study is started with: mnist-hpo run STUDY.yaml"
    )


@contextlib.contextmanager
def user_errors(url: str) -> Generator[None]:
    """Convert errors of a storage to a `UserError` that names the storage and the cause."""
    try:
        yield
    except UpdateFinishedTrialError as error:
        problem = "another process has finished a trial of this study meanwhile; run the same command again"
        raise UserError(f"storage {without_password(url)}: {problem}") from error
    except DuplicatedStudyError as error:
        problem = "another process has created this study meanwhile; run the same command again"
        raise UserError(f"storage {without_password(url)}: {problem}") from error
    except KeyError as error:
        # Optuna does not check a journal's entries.
        problem = f"a record of the study is missing ({_cause(error)}): was it deleted or changed by another program?"
        raise UserError(f"storage {without_password(url)}: {problem}") from error
    except _ERRORS as error:
        raise UserError(f"storage {without_password(url)}: {_cause(error)}") from error


def _create_database(path: Path) -> None:
    storage = RDBStorage(_escaped(sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()))
    storage.remove_session()
    storage.engine.dispose()


def _open_sqlite(url: str, path: Path) -> RDBStorage:
    # WAL: readers never block the search, nor the search readers.
    # One process at a time: SQLite does not wait to change the mode, nor does Optuna to add missing tables.
    with creation_lock(path):
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        storage = RDBStorage(_escaped(url), engine_kwargs=_ENGINE)
    # In WAL mode commits still survive a killed process. A power cut may lose the last ones, which are recomputed.
    event.listen(storage.engine, "connect", _relax_fsync)
    storage.engine.dispose()  # Close connections that were opened without it.
    return storage


def _open_postgresql(address: Address) -> RDBStorage:
    """Open the storage and create missing tables. Processes take turns, since Optuna takes no lock for it."""
    with user_errors(address.shown):
        engine = sqlalchemy.create_engine(address.engine_url)
        try:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _TABLES_LOCK})
                connection.commit()
                return RDBStorage(_escaped(address.engine_url))
        finally:
            engine.dispose()  # Closes the connection and so releases its lock.


def _escaped(url: str) -> str:
    """Return a URL for Optuna, which treats it as a template with braces."""
    return url.replace("{", "{{").replace("}", "}}")


def _read_sqlite(url: str) -> RDBStorage:
    # Optuna reads in transactions of single queries, and in WAL mode even one that hangs does not block a writer.
    storage = RDBStorage(_escaped(url), engine_kwargs=_ENGINE, skip_table_creation=True)
    event.listen(storage.engine, "connect", _refuse_writes)
    storage.engine.dispose()
    return storage


def _refuse_writes(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only=ON")


def _relax_fsync(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def _make_folder(folder: Path, address: Address) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"storage {address.shown}: the folder {folder} cannot be created: {cause}") from None


def _cause(error: BaseException) -> str:
    """Return the message of the innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if getattr(error, "sqlite_errorname", None) == "SQLITE_IOERR_SHMSIZE":
        # SQLite's own text is "disk I/O error"; https://sqlite.org/rescode.html#ioerr_shmsize names the usual cause.
        return "SQLite's -shm file beside it cannot grow; the disk is full"
    text = str(getattr(error, "orig", None) or error).strip().splitlines()
    cause = text[0] if text else type(error).__name__
    return f"not an Optuna storage: {cause}" if cause.startswith("no such table") else cause
