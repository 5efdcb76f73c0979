"""MLflow's SQLite file: create it atomically, and detect when it is deleted or replaced while it is open."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import urllib.parse
from pathlib import Path

import filelock

from mnist_hpo.spec.errors import UserError

_opened: dict[Path, tuple[int, int] | None] = {}
"""Device and inode of each file that this process has open. MLflow keeps its connections until the process exits."""


class DatabaseReplacedError(UserError):
    """The file that this process has open is no longer the one at its path, so its writes would be lost."""


def local_database(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite tracking store; None for other stores."""
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


def open_database(path: Path) -> None:
    """Create the file if there is none, set its journal mode and remember its identity.

    Raises:
        DatabaseReplacedError: this process opened a different file at this path before.

    """
    check_in_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_missing(path) or _leftovers(path):
        # Only the lock's holder creates or removes files here, so all that it finds were left by dead processes.
        with filelock.FileLock(path.with_name(f"{path.name}.lock")):
            _remove(_leftovers(path))
            if _is_missing(path):
                _create(path)
    _opened[path] = _identity(path)
    # WAL: a reader, such as the UI, never blocks the writer, nor the writer a reader.
    uri = f"file:{urllib.parse.quote(str(path))}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, timeout=60, uri=True)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def check_in_place(path: Path) -> None:
    """Check that the file at this path is the one that this process has opened, if it has opened one.

    Raises:
        DatabaseReplacedError: the file was deleted or replaced.

    """
    if path in _opened and _opened[path] != _identity(path):
        raise DatabaseReplacedError(f"{path} was deleted or replaced while it was being written")


def _create(path: Path) -> None:
    """Create MLflow's tables in a temporary file, and rename it.

    MLflow creates the tables by some forty migrations. A process that is killed during one of them leaves a file that
    MLflow can never open again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # SQLite would apply the write-ahead log of a deleted database to the new one.
    _remove([path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))])
    new = path.with_name(f"{path.name}.new")
    store = SqlAlchemyStore(f"sqlite:///{new}", (path.parent.resolve() / "artifacts").as_uri())
    store.engine.dispose()
    new.rename(path)


def _is_missing(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _leftovers(path: Path) -> list[Path]:
    """Return the temporary databases, with their journals, of processes that were killed while creating one."""
    pattern = re.compile(rf"{re.escape(path.name)}\.(\d+\.)?new(-journal|-wal|-shm)?")
    return [found for found in path.parent.iterdir() if pattern.fullmatch(found.name)]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
