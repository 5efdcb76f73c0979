"""Executors by name."""

from __future__ import annotations

from mnist_hpo.executors.protocol import ExecutorFactory
from mnist_hpo.spec.plugins import Plugins

EXECUTORS = Plugins("executor", "mnist_hpo.executors.backends", "EXECUTOR", "mnist_hpo.executors")
DEFAULT_EXECUTOR = "local"


def executor_factory(name: str) -> ExecutorFactory:
    """Return the factory of an executor: a file in `executors/backends`, or an entry point `mnist_hpo.executors`.

    Raises:
        UserError: there is no such executor, or it cannot be loaded.

    """
    return EXECUTORS.load(name)
