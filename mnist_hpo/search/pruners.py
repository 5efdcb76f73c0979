"""Pruners by name. Optuna's step is the epoch, counted from 1, so a pruner's resource is the number of epochs."""

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


PARETO_PRUNERS = ("none", "successive_halving")
"""The pruners that work with several objectives; see `ParetoPruner`."""


def make_pruner(study: Study) -> BasePruner:
    """Return the study's pruner, before its first trial.

    Raises:
        OptionError: an option is unknown or has a value that the pruner refuses.

    """
    return build(PRUNERS[study.pruner.name], {**_resources(study), **study.pruner.options}, {})


def _resources(study: Study) -> dict[str, object]:
    """Return resources that Optuna would otherwise guess from the trials that are complete at its first call."""
    ours: dict[str, dict[str, object]] = {
        "hyperband": {"min_resource": 1, "max_resource": study.budget.max_epochs},
        "successive_halving": {"min_resource": 1},
    }
    resources = ours.get(study.pruner.name, {})
    for name in resources:
        if study.pruner.options.get(name) == "auto":
            raise OptionError(name, f"'auto' is not deterministic; give the number of epochs, or leave {name} out")
    return resources


def check_effective(study: Study) -> None:
    """Check options that Optuna accepts although the pruner has no bracket or prunes every trial at its first rung.

    Raises:
        OptionError: an option has such a value.

    """
    options, budget = study.pruner.options, study.budget
    if study.pruner.name == "hyperband":
        least, most = _integer(options, "min_resource", 1), _integer(options, "max_resource", budget.max_epochs)
        if least > most:
            option = "min_resource" if "min_resource" in options else "max_resource"
            raise OptionError(
                option, f"min_resource ({least}) is greater than max_resource ({most}): nothing is pruned"
            )
    needed = _integer(options, "bootstrap_count", 0)
    if needed >= budget.n_trials:
        raise OptionError(
            "bootstrap_count",
            f"{needed} trials must reach a rung before one can pass it, but budget.n_trials is {budget.n_trials}: "
            "every trial would be pruned at its first rung",
        )


def decision_epochs(study: Study) -> frozenset[int]:
    """Return the epochs after which the pruner may prune a trial; see `Policy.decision_epochs`."""
    options, last = study.pruner.options, study.budget.max_epochs
    match study.pruner.name:
        case "none":
            return frozenset()
        case "median":
            warmup, interval = _integer(options, "n_warmup_steps", 0), _integer(options, "interval_steps", 1)
            first = warmup if warmup > 0 else interval
            return frozenset([*([1] if warmup <= 1 else []), *range(first, last + 1, interval)])
        case _:
            return frozenset(rungs(_integer(options, "min_resource", 1), halving_factor(study), last))


def halving_factor(study: Study) -> int:
    """Return the `reduction_factor` of successive halving and hyperband: 1 of this many trials passes a rung."""
    return _integer(study.pruner.options, "reduction_factor", 3 if study.pruner.name == "hyperband" else 4)


def rungs(min_resource: int, reduction_factor: int, last: int) -> list[int]:
    """Return the epochs min_resource · reduction_factor ** k up to `last`."""
    epochs = (min_resource * reduction_factor**k for k in range(last.bit_length() + 1))
    return [epoch for epoch in epochs if epoch <= last]


def _integer(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    assert isinstance(value, int)
    return value
