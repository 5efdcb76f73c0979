"""Structured logs: one JSON object a line, without data of images."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import Any

import orjson

_FLUSH_S = 0.1
_MAX_LINES = 20_000
"""Lines that wait for a reader who is too slow; then the oldest are lost, and a line says how many."""


class Log:
    """Writes lines on a thread of its own, so that a slow reader delays no request. It starts and stops as a context.

    Args:
        descriptor: the file to write to. A Python stream would be locked while a reader is slow, and then nobody could
            close it.

    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque(maxlen=_MAX_LINES)
        self._n_lost = 0
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)

    def __enter__(self) -> Log:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        self._thread.join(timeout=2)  # There may be no reader.

    def event(self, event: str, **fields: Any) -> None:
        """Write a line with the time, the event's name and its fields."""
        self._n_lost += len(self._lines) == _MAX_LINES
        self._lines.append(orjson.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str))

    def _write(self) -> None:
        while not self._is_ending.wait(_FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._n_lost:
            lost, self._n_lost = self._n_lost, 0
            self.event("lines_lost", lines=lost)
        lines = bytearray()
        while self._lines:
            lines += self._lines.popleft() + b"\n"
        with contextlib.suppress(OSError):  # The reader has gone, or the disk is full: the service goes on without.
            while lines:
                del lines[: os.write(self._descriptor, lines)]
