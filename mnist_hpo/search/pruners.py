"""Pruners by name. Optuna's step is the epoch, counted from 1, so a pruner's resource is the number of epochs."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)

from mnist_hpo.search.options import OptionError, build
from mnist_hpo.spec.errors import shown
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.study import Budget, Method, Study


class WrappingPruner(PatientPruner):
    """Optuna's patient pruner, which a study file can give another pruner."""

    def __init__(
        self, budget: Budget, *, wraps: Method | None = None, patience: int = 3, min_delta: float = 0.0
    ) -> None:
        super().__init__(None if wraps is None else _make_wrapped(wraps, budget), patience, min_delta)


PRUNERS: Mapping[str, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "percentile": PercentilePruner,
    "threshold": ThresholdPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
    "wilcoxon": WilcoxonPruner,
    "patient": WrappingPruner,
}


PARETO_PRUNERS = ("none", "successive_halving")
"""The pruners that work with several objectives; see `ParetoPruner`."""


def make_pruner(study: Study) -> BasePruner:
    """Return the study's pruner, before its first trial.

    Raises:
        OptionError: an option is unknown or has a value that the pruner refuses.

    """
    return _make(study.pruner, study.budget)


def default_options(name: str, budget: Budget) -> dict[str, object]:
    """Return options whose default is not Optuna's. It has none, or guesses from the trials complete at first use."""
    defaults: dict[str, dict[str, object]] = {
        "percentile": {"percentile": 25.0},
        "hyperband": {"min_resource": 1, "max_resource": budget.max_epochs},
        "successive_halving": {"min_resource": 1},
    }
    return defaults.get(name, {})


def _make(method: Method, budget: Budget) -> BasePruner:
    defaults = default_options(method.name, budget)
    for name in defaults:
        if method.options.get(name) == "auto":
            raise OptionError(name, f"'auto' is not deterministic; give the number of epochs, or leave {name} out")
    kind = PRUNERS[method.name]
    return build(kind, {**defaults, **method.options}, {"budget": budget} if kind is WrappingPruner else {})


def _make_wrapped(method: Method, budget: Budget) -> BasePruner:
    known = [name for name in PRUNERS if name not in ("none", "patient")]
    try:
        if method.name not in known:
            problem = f"cannot wrap the pruner {shown(method.name)}{nearest(method.name, known)}"
            raise OptionError("name", f"{problem}; can wrap {', '.join(known)}")
        return _make(method, budget)
    except OptionError as error:
        raise error.within("wraps") from None


def check_effective(study: Study) -> None:
    """Check options that Optuna accepts although the pruner has no bracket or prunes every trial at its first rung.

    Raises:
        OptionError: an option has such a value.

    """
    wrapped = wrapped_method(study.pruner)
    if wrapped is None:
        return _check_effective(study.pruner, study.budget)
    try:
        _check_effective(wrapped, study.budget)
    except OptionError as error:
        raise error.within("wraps") from None


def wrapped_method(method: Method) -> Method | None:
    """Return the pruner that the pruner `patient` wraps, or None."""
    wraps = method.options.get("wraps") if method.name == "patient" else None
    return None if wraps is None else Method.model_validate(wraps)


def _check_effective(method: Method, budget: Budget) -> None:
    options = method.options
    if method.name == "hyperband":
        least = integer_option(method, "min_resource", 1)
        most = integer_option(method, "max_resource", budget.max_epochs)
        if least > most:
            option = "min_resource" if "min_resource" in options else "max_resource"
            raise OptionError(
                option, f"min_resource ({least}) is greater than max_resource ({most}): nothing is pruned"
            )
    needed = integer_option(method, "bootstrap_count", 0)
    if needed >= budget.n_trials:
        raise OptionError(
            "bootstrap_count",
            f"{needed} trials must reach a rung before one can pass it, but budget.n_trials is {budget.n_trials}: "
            "every trial would be pruned at its first rung",
        )


def integer_option(method: Method, name: str, default: int) -> int:
    """Return the value of an option that has been checked to be an integer."""
    value = method.options.get(name, default)
    assert isinstance(value, int)
    return value
