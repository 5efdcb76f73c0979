"""Open an Optuna storage by its URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from mnist_hpo.spec.errors import UserError

_BUSY_TIMEOUT_S = 60
_ENGINE: dict[str, Any] = {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
_JOURNAL_GRACE_S = 5
"""A journal's lock that is left over from a killed process is taken away after so long."""


def open_storage(url: str, *, read_only: bool = False) -> BaseStorage:
    """Open an Optuna storage, and make it where it is not there yet.

    Args:
        url: any SQLAlchemy URL that Optuna takes (sqlite:///…, postgresql+psycopg://…), or journal:///FILE.
        read_only: whether it is only looked at: a file that is not there yet is an error rather than a new storage,
            and SQLite refuses to write.

    Raises:
        UserError: it cannot be opened.

    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = local_file(url)
    if path is not None:
        with told_clearly(url):
            is_there = path.exists()
        if read_only and not is_there:
            raise _not_there(url, path)
        _make_folder(path.parent, url)
    check_url(url)
    with told_clearly(url):
        if url.startswith("journal:"):
            assert path is not None
            lock = JournalFileSymlinkLock(str(path), grace_period=_JOURNAL_GRACE_S)
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        if path is None:
            return RDBStorage(url)
        return _read_sqlite(url) if read_only else _open_sqlite(url, path)


def local_file(url: str) -> Path | None:
    """The file behind a storage URL, or None where it is a server's."""
    scheme, separator, rest = url.partition(":///")
    if not separator or rest in ("", ":memory:") or scheme not in ("sqlite", "journal"):
        return None
    return Path(rest)


def address_for_reading(url: str) -> str:
    """The storage's address for Optuna's other tools, which want a journal's file and take a URL for all else.

    Through an SQLite storage's address nothing can be written, so that a click in a tool changes no record.

    Raises:
        UserError: there is no such storage.

    """
    path = local_file(url)
    if path is None:
        check_url(url)
        return url
    with told_clearly(url):
        is_there = path.exists()
    if not is_there:
        raise _not_there(url, path)
    if url.startswith("journal:"):
        return str(path)
    return f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"


def _not_there(url: str, path: Path) -> UserError:
    return UserError(
        f"{url}: there is no storage yet at {path.resolve()}; run this in the project's folder, or name the storage "
        "with --storage (load_trials: storage=…); a study is started with: mnist-hpo run STUDY.yaml"
    )


def check_url(url: str) -> None:
    """Refuse a URL behind which no storage can be, before anything is written for its sake.

    Raises:
        UserError: it is none, its driver is not installed, or it keeps nothing once the process has ended.

    """
    if local_file(url) is not None:
        return
    with told_clearly(url):
        parsed = sqlalchemy.make_url(url)
        parsed.get_dialect().import_dbapi()
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError(f"storage {url}: keeps nothing once the run has ended; name a file: sqlite:///FILE")


@contextmanager
def told_clearly(url: str) -> Generator[None]:
    """Turn what a storage raises into a `UserError` that names the storage and the cause."""
    try:
        yield
    except KeyError as error:
        # Optuna reads a journal's entries unchecked.
        raise UserError(f"storage {without_password(url)}: is damaged: {error} is missing in an entry") from error
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        raise UserError(f"storage {without_password(url)}: {_cause(error)}") from error
    except RuntimeError as error:
        # Optuna refuses the tables of another version in this way.
        raise UserError(f"storage {without_password(url)}: {_cause(error)}") from error


def _open_sqlite(url: str, path: Path) -> RDBStorage:
    # WAL: whoever looks at the study never blocks the search, and the other way round.
    with sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    storage = RDBStorage(url, engine_kwargs=_ENGINE)
    # In WAL mode a commit then survives a killed process; only a power cut may cost the last ones, which replay.
    event.listen(storage.engine, "connect", _relax_fsync)
    storage.engine.dispose()  # The connections that are open already have not heard of it.
    return storage


def _read_sqlite(url: str) -> RDBStorage:
    # Optuna reads in transactions of single queries, and in WAL mode even one that hangs holds no writer up.
    storage = RDBStorage(url, engine_kwargs=_ENGINE, skip_table_creation=True)
    event.listen(storage.engine, "connect", _refuse_writes)
    storage.engine.dispose()
    return storage


def _refuse_writes(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only=ON")


def _relax_fsync(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def _make_folder(folder: Path, url: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"storage {url}: the folder {folder} cannot be made: {error.strerror}") from None


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(getattr(error, "orig", None) or error).strip().splitlines()
    cause = text[0] if text else type(error).__name__
    return f"not an Optuna storage: {cause}" if cause.startswith("no such table") else cause


def without_password(url: str) -> str:
    """A storage's URL as it may be shown."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return url
