"""Linear algebra on one thread: with more, sums are added in an order that depends on the number of cores."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which NumPy and SciPy use one thread for linear algebra."""
    return _controller().limit(limits=1)


@cache
def _controller() -> ThreadpoolController:
    """Return a controller that knows the libraries that are loaded, among them SciPy's own."""
    importlib.import_module("scipy.linalg")
    return ThreadpoolController()
