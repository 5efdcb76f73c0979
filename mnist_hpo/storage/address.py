"""What a storage URL refers to: a file, identified by its resolved path, or a PostgreSQL database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy
from sqlalchemy.exc import ArgumentError

from mnist_hpo.spec.errors import UserError

_SUPPORTED = "use sqlite:///FILE, journal:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
_IN_MEMORY = (None, "", ":memory:")


@dataclass(frozen=True)
class Address:
    """The location of a storage."""

    kind: Literal["sqlite", "journal", "postgresql"]
    shown: str
    """The URL as the user wrote it, without the password, for messages."""
    engine_url: str
    """The URL for Optuna and SQLAlchemy; unused for a journal."""
    path: Path | None
    """The absolute path of the file, with symlinks followed; None for a PostgreSQL database."""


def parse_address(url: str) -> Address:
    """Parse a storage URL without opening the storage.

    Raises:
        UserError: it is not a URL, or not a supported one.

    """
    try:
        parsed = sqlalchemy.make_url(url)
    except (ArgumentError, ValueError):
        raise _refusal(url, f"not a storage URL; {_SUPPORTED}") from None
    if parsed.drivername == "postgresql+psycopg":
        return Address("postgresql", without_password(url), url, None)
    if parsed.get_backend_name() == "sqlite" and not parsed.host and parsed.database in _IN_MEMORY:
        raise _refusal(url, "is lost when the run ends; name a file: sqlite:///FILE")
    if parsed.drivername not in ("sqlite", "journal"):
        raise _refusal(url, f"{parsed.drivername} is not supported; {_SUPPORTED}")
    if parsed.host or not parsed.database or parsed.username or parsed.port:
        raise _refusal(url, f"names no file; use {parsed.drivername}:///FILE (three slashes)")
    if parsed.query or parsed.database.startswith("file:"):
        raise _refusal(
            url, f"options in a URL and file: addresses are not supported; use {parsed.drivername}:///FILE alone"
        )
    try:
        path = Path(parsed.database).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise _refusal(url, str(error)) from None
    engine_url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()
    return Address("sqlite" if parsed.drivername == "sqlite" else "journal", without_password(url), engine_url, path)


def without_password(url: str) -> str:
    """Return a URL, even one that cannot be parsed, with its password hidden."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _refusal(url: str, problem: str) -> UserError:
    return UserError(f"storage {without_password(url)}: {problem}")
