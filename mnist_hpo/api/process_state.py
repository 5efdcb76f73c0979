"""Restore state of the caller's process that a search changes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator


@contextlib.contextmanager
def keep_log_levels() -> Generator[None]:
    """Restore Optuna's log level afterwards, since modules that use Optuna silence it. Also works as a decorator."""
    import optuna

    level = optuna.logging.get_verbosity()
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
