"""Structured logs: one JSON object a line, without data of images."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Any, TextIO

import orjson

_FLUSH_S = 0.1
_MAX_LINES = 20_000
"""Lines that wait for a reader who is too slow; then the oldest are lost, and a line says how many."""


class Log:
    """Writes lines on a thread of its own, so that a slow reader delays no request. It starts and stops as a context.

    Args:
        stream: where to write.

    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque(maxlen=_MAX_LINES)
        self._n_lost = 0
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)

    def __enter__(self) -> Log:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        self._thread.join(timeout=5)  # Nobody may read the stream.

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
        lines = list[str]()
        while self._lines:
            lines.append(self._lines.popleft().decode() + "\n")
        with contextlib.suppress(OSError, ValueError):  # The stream is closed: the service goes on without logs.
            self._stream.write("".join(lines))
            self._stream.flush()
