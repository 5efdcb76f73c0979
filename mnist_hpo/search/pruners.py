"""Pruners by name. An epoch, counted from 1, is Optuna's step, so a pruner's resource is epochs trained."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from mnist_hpo.search.options import OptionError, build
from mnist_hpo.spec.study import Study

PRUNERS: Mapping[str, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
}


def make_pruner(study: Study) -> BasePruner:
    """The study's pruner, as before its first trial.

    Raises:
        OptionError: an option is unknown or has a value that the pruner refuses.

    """
    return build(PRUNERS[study.pruner.name], {**_resources(study), **study.pruner.options}, {})


def _resources(study: Study) -> dict[str, object]:
    """What Optuna would guess from the trials that are complete when it first looks, and keep: a matter of chance."""
    ours: dict[str, dict[str, object]] = {
        "hyperband": {"min_resource": 1, "max_resource": study.budget.max_epochs},
        "successive_halving": {"min_resource": 1},
    }
    resources = ours.get(study.pruner.name, {})
    for name in resources:
        if study.pruner.options.get(name) == "auto":
            raise OptionError(name, f"'auto' depends on chance; give the number of epochs, or leave {name} out")
    return resources


def decision_epochs(study: Study) -> frozenset[int]:
    """The epochs after which the pruner may end a trial; a job need not stop at any other.

    Too many only costs speed, and so does a missing one (epochs trained beyond a prune are thrown away).
    """
    options, last = study.pruner.options, study.budget.max_epochs
    every = frozenset(range(1, last + 1))
    match study.pruner.name:
        case "none":
            return frozenset()
        case "median":
            warmup, interval = _integer(options, "n_warmup_steps", 0), _integer(options, "interval_steps", 1)
            return frozenset(e for e in every if e >= warmup and (e == 1 or (e - warmup) % interval == 0))
        case name:
            factor = _integer(options, "reduction_factor", 3 if name == "hyperband" else 4)
            rungs = (_integer(options, "min_resource", 1) * factor**rung for rung in range(last.bit_length() + 1))
            return every & frozenset(rungs)


def _integer(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    assert isinstance(value, int)
    return value
