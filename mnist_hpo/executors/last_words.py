"""What a child process died of."""

from __future__ import annotations

import signal
from typing import IO


def last_words(code: int, errors: IO[bytes]) -> str:
    """In a few words, from its exit code and what it has written to this file."""
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (the system does so when memory runs out)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no message'}"
