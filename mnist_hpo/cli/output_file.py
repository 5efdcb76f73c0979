"""Writing a result where the user says: to a file, a device, a pipe or standard output.

A file is replaced atomically, and only by a file of the same kind.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.spec.errors import UserError

ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file even if it is of another kind.")]

_STANDARD_OUTPUT = 1
_HEAD_BYTES = 4096
_MAX_LINKS = 40
"""Linux follows at most this many symbolic links."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file that a command writes."""

    name: str
    """With an article: "a CSV table"."""
    recognises: Callable[[bytes, Path], bool]
    """Return whether a file is of this kind, given its first bytes and its path."""


HTML_PAGE = FileKind("a page written by mnist-hpo", lambda head, _path: b'name="generator" content="mnist-hpo"' in head)
CSV_TABLE = FileKind("a CSV table", lambda head, path: path.suffix.lower() == ".csv" and b"\0" not in head)
MARKDOWN_TABLE = FileKind("a Markdown table", lambda head, path: path.suffix.lower() == ".md" and head.startswith(b"|"))
PARQUET_TABLE = FileKind("a Parquet table", lambda head, _path: head.startswith(b"PAR1"))
PNG_PICTURE = FileKind("a PNG picture", lambda head, _path: head.startswith(b"\x89PNG\r\n\x1a\n"))


@dataclass(frozen=True)
class OutputFile:
    """The value of an option that names where a result goes.

    A regular file is written to a temporary file in the same folder and renamed, so that a failed write leaves the old
    file intact. A symbolic link is followed and kept. A character device, a pipe and `-` (standard output) are written
    as a stream.
    """

    option: str
    path: Path
    kind: FileKind
    force: bool = False
    """Replace a file of any kind."""

    @property
    def is_standard_output(self) -> bool:
        """Whether the result goes to standard output."""
        return str(self.path) == "-" or _own_descriptor(self.path) == _STANDARD_OUTPUT

    @property
    def is_stream(self) -> bool:
        """Whether the result goes to a device, a pipe or an open descriptor rather than to a file."""
        if str(self.path) == "-" or _own_descriptor(self.path) is not None:
            return True
        mode = _mode(self.path)
        return mode is not None and (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode))

    def check(self) -> None:
        """Check before the work is done that the result can be written.

        Raises:
            UserError: it cannot be written, or it would replace a file of another kind.

        """
        with self._clear_errors():
            descriptor = _own_descriptor(self.path)
            if self.is_standard_output:
                return
            if descriptor is not None:
                # Descriptors that this process opened itself, such as a database's, are not inheritable.
                if not os.get_inheritable(descriptor):
                    raise self._error("is not open")
            elif self.is_stream:
                if not os.access(self.path, os.W_OK):
                    raise self._error("cannot be written: Permission denied")
            else:
                self._check_file()

    def write(self, content: bytes) -> None:
        """Write the result.

        Raises:
            UserError: it cannot be written; the file that was there before is unchanged.

        """
        self.check()
        if self.is_standard_output:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            return
        with self._clear_errors():
            if self.is_stream:
                self._stream(content)
            else:
                self._replace(content)

    def _check_file(self) -> None:
        mode = _mode(self.path)
        target = Path(os.path.realpath(self.path))
        if mode is None and not target.parent.is_dir():
            folder = target.parent if self.path.is_symlink() else self.path.parent
            raise self._error(f"there is no folder {folder}; make it first, or name another file")
        if mode is not None and stat.S_ISDIR(mode):
            raise self._error("is a folder; name a file in it")
        if mode is not None and not stat.S_ISREG(mode):
            raise self._error("is a disk or a socket; name a file")
        if mode is not None:
            # Opened for writing too, since a rename alone would replace a write-protected file.
            with target.open("r+b") as file:
                head = file.read(_HEAD_BYTES)
            if head and not self.force and not self.kind.recognises(head, target):
                raise self._error(f"exists and is not {self.kind.name}; name another file, or replace it with --force")
        # Permissions are not enough: root passes every check, but some file systems are read-only. So create a file.
        temporary, descriptor = self._open_beside(target)
        os.close(descriptor)
        temporary.unlink()

    def _stream(self, content: bytes) -> None:
        descriptor = _own_descriptor(self.path)
        opened = os.open(self.path, os.O_WRONLY) if descriptor is None else os.dup(descriptor)
        with os.fdopen(opened, "wb") as stream:
            stream.write(content)

    def _replace(self, content: bytes) -> None:
        target = Path(os.path.realpath(self.path))
        temporary, descriptor = self._open_beside(target)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                _copy_permissions(target, descriptor)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _open_beside(self, target: Path) -> tuple[Path, int]:
        """Create a temporary file with a short name in the target's folder, and open it for writing."""
        # Raises an error here, rather than after the work, if the target's name is too long.
        _mode(target)
        temporary = target.with_name(f".mnist-hpo-{secrets.token_hex(8)}.tmp")
        try:
            return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise self._error(f"cannot create a file in the folder {target.parent}: {error.strerror}") from None

    @contextlib.contextmanager
    def _clear_errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror or error}") from None

    def _error(self, problem: str) -> UserError:
        return UserError(f"{self.option} {self.path}: {problem}")


def check_outputs(outputs: Sequence[OutputFile], *, prints_json: bool) -> None:
    """Check every output of a command before the work is done.

    Raises:
        UserError: one cannot be written, or two go to the same place.

    """
    printed = [output.option for output in outputs if output.is_standard_output] + ["--json"] * prints_json
    if len(printed) > 1:
        raise UserError(f"{' and '.join(printed)} would mix on standard output: name a file, or leave one out")
    places: dict[str, str] = {}
    for output in outputs:
        output.check()
        place = os.path.realpath(output.path)
        if place in places and not output.is_stream:
            raise UserError(f"{places[place]} and {output.option} name the same file, {output.path}")
        places[place] = output.option


def write_and_report(output: OutputFile, content: bytes) -> None:
    """Write a result, and print its size to standard error.

    Raises:
        UserError: the result cannot be written.

    """
    output.write(content)
    if not output.is_standard_output:
        print(f"{output.path}: {len(content) / 1000:,.1f} kB", file=sys.stderr)


def _own_descriptor(path: Path) -> int | None:
    """Return the file descriptor of this process that a path such as /dev/stdout or /dev/fd/3 refers to, or None."""
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == f"/proc/{os.getpid()}/fd" and re.fullmatch("[0-9]{1,9}", path.name):
            return int(path.name)
        try:
            path = Path(folder, path.readlink())
        except OSError:
            return None
    return None


def _mode(path: Path) -> int | None:
    """Return the type and permissions of the file at a path, following links, or None if there is no file."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _copy_permissions(source: Path, descriptor: int) -> None:
    """Give an open file the owner and the mode of the source, if the source exists."""
    try:
        wanted = source.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))
