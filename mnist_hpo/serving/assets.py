"""The files of the page. They are read once, and only they are served: there are no paths to walk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "assets"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}
_PAGES = {"/": "/index.html", "/docs": "/docs.html"}
"""Paths without a suffix, and the files that they show."""


@dataclass(frozen=True)
class Asset:
    """A file."""

    content: bytes
    media_type: str
    etag: str


def load_assets(folder: Path) -> Mapping[str, Asset]:
    """Return the files of a folder and its subfolders by the path at which they are served.

    Raises:
        ValueError: a file has a suffix of no known type.

    """
    found = {f"/{file.relative_to(folder).as_posix()}": _asset(file) for file in folder.rglob("*") if file.is_file()}
    return found | {path: found[file] for path, file in _PAGES.items() if file in found}


def _asset(file: Path) -> Asset:
    media_type = _TYPES.get(file.suffix)
    if media_type is None:
        raise ValueError(f"{file}: is none of the types that are served ({' '.join(_TYPES)})")
    content = file.read_bytes()
    return Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
