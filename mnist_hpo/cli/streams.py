"""Robust standard streams: they may be full, closed or of a limited encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2


def prepare_streams() -> None:
    """Make the standard streams safe to use. Call this before anything is opened or printed.

    Afterwards a failed write to standard output raises a `UserError`, and a failed write to standard error loses only
    that message. If the reader of a pipe has exited, both raise `BrokenPipeError`. Characters that the encoding lacks
    are replaced.

    Raises:
        UserError: standard output is closed.

    """
    closed = [descriptor for descriptor in range(3) if not _is_open(descriptor)]
    for descriptor in closed:
        # Otherwise the next file to be opened, perhaps a database, would become a standard stream.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # Takes the lowest free number: this one.
        assert _is_open(descriptor)
    sys.stdout = _text_stream(_Output(_STANDARD_OUTPUT, "wb", closefd=False), sys.stdout, "replace")
    sys.stderr = _text_stream(_Messages(_STANDARD_ERROR, "wb", closefd=False), sys.stderr, "backslashreplace")
    if _STANDARD_OUTPUT in closed:
        raise UserError("standard output is closed; send it to a file, or to /dev/null")


def close_streams() -> None:
    """Discard unwritten output, so that Python does not try to write it again and report an error when it exits."""
    for stream, descriptor in ((sys.stdout, _STANDARD_OUTPUT), (sys.stderr, _STANDARD_ERROR)):
        try:
            stream.flush()
        except (OSError, UserError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Output(io.FileIO):
    """Standard output. A failed write raises an error that says so."""

    def write(self, data: ReadableBuffer, /) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"standard output cannot be written: {error.strerror}") from None


class _Messages(io.FileIO):
    """Standard error. A message that cannot be written is lost, and the work continues."""

    def write(self, data: ReadableBuffer, /) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def _text_stream(raw: io.FileIO, like: TextIO | None, errors: str) -> TextIO:
    is_message = isinstance(raw, _Messages)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding if like else "utf-8",
        errors=errors,
        line_buffering=is_message or raw.isatty(),
        write_through=isinstance(like, io.TextIOWrapper) and like.write_through,
    )


def _is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return True
    return False
