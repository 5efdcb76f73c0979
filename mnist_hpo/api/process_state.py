"""Keeps what the search changes in the process from reaching the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Generator


@contextlib.contextmanager
def keep_log_levels() -> Generator[None]:
    """Put Optuna's log level back: below the API, every module that uses Optuna silences it. Also a decorator."""
    import optuna

    level = optuna.logging.get_verbosity()
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
