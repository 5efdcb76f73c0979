"""Deterministic hyperparameter search on MNIST: the study file decides what is computed, the machine only how fast.

>>> result = mnist_hpo.run_study("studies/quickstart.yaml")
>>> mnist_hpo.retrain("quickstart")["test_accuracy_mean"]
>>> mnist_hpo.load_model("quickstart").predict(images)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_hpo.api.compare import compare
    from mnist_hpo.api.prediction import load_model
    from mnist_hpo.api.retrain import retrain
    from mnist_hpo.api.run import run_study
    from mnist_hpo.api.trials import load_trials
    from mnist_hpo.runner import StudyResult
    from mnist_hpo.spec.errors import UserError
    from mnist_hpo.spec.study import Study

__all__ = ["Study", "StudyResult", "UserError", "compare", "load_model", "load_trials", "retrain", "run_study"]

_MODULES = {
    "Study": "spec.study",
    "StudyResult": "runner",
    "UserError": "spec.errors",
    "compare": "api.compare",
    "load_model": "api.prediction",
    "load_trials": "api.trials",
    "retrain": "api.retrain",
    "run_study": "api.run",
}


def __getattr__(name: str) -> Any:
    # Loaded when it is used: whoever imports the package, as every worker does, pays nothing for pandas and Optuna.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
