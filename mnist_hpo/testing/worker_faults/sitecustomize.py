"""Kill worker processes just before they report given messages.

Python imports this module at start if its folder is on PYTHONPATH. MNIST_HPO_DIE_BEFORE lists messages, separated by
spaces: `JobDone`, or `EpochDone:3` for the result of epoch 3. A worker kills itself instead of reporting such a
message, once for each time that the list contains it. Files in the folder MNIST_HPO_DEATHS count the deaths.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULE = "mnist_hpo.executors.run_job"


class _PatchWhenImported:
    """A meta path finder that patches one module after its import, and leaves finding modules to the others."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            _patch(module)

        spec.loader.exec_module = execute_and_patch
        return spec


def _patch(run_job: ModuleType) -> None:
    initialize = run_job.JobRunner.__init__

    def initialize_with_faults(self: Any, report: Callable[[Any], None], index: int) -> None:
        def die_or_report(message: Any) -> None:
            _die_if_due(message)
            report(message)

        initialize(self, die_or_report, index)

    run_job.JobRunner.__init__ = initialize_with_faults


def _die_if_due(message: Any) -> None:
    name = type(message).__name__
    if name == "EpochDone":
        name += f":{message.result.epoch}"
    deaths = Path(os.environ["MNIST_HPO_DEATHS"])
    n_deaths = len(list(deaths.glob(f"{name}-*")))
    if n_deaths < os.environ["MNIST_HPO_DIE_BEFORE"].split().count(name):
        (deaths / f"{name}-{n_deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


if "MNIST_HPO_DIE_BEFORE" in os.environ:
    sys.meta_path.insert(0, _PatchWhenImported())
