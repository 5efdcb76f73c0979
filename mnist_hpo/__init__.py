"""Deterministic hyperparameter search on MNIST: the study file decides what is computed, the machine only how fast.

`load_trials("quickstart")` is a study's table of trials, for notebooks.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_hpo.analysis.reading import load_trials

__all__ = ["load_trials"]


def __getattr__(name: str) -> Any:
    # Loaded when it is used: whoever imports the package, as every worker does, pays nothing for pandas and Optuna.
    if name != "load_trials":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mnist_hpo.analysis.reading import load_trials

    return load_trials
