"""Pruners by name. An epoch, counted from 1, is Optuna's step, so a pruner's resource is epochs trained."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from mnist_hpo.search.options import build
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
    options = study.pruner.options
    if study.pruner.name == "hyperband":
        # Optuna would otherwise guess it from the first trial that completes.
        options = {"max_resource": study.budget.max_epochs, **options}
    return build(PRUNERS[study.pruner.name], options, {})


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
        # Optuna guesses "auto" when the first trial is complete, and then judges at once whatever is in flight.
        case "successive_halving" if options.get("min_resource", "auto") == "auto":
            return every
        case "hyperband" if options.get("max_resource") == "auto":
            return every
        case name:
            factor = _integer(options, "reduction_factor", 3 if name == "hyperband" else 4)
            rungs = (_integer(options, "min_resource", 1) * factor**rung for rung in range(last.bit_length() + 1))
            return every & frozenset(rungs)


def _integer(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    assert isinstance(value, int)
    return value
