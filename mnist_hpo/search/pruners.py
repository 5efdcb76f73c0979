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


PARETO_PRUNERS = ("none", "successive_halving")
"""Those for studies with several objectives: see `ParetoPruner`."""


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


def check_meaning(study: Study) -> None:
    """Refuse what Optuna accepts although the pruner then has no bracket, or prunes every trial at its first rung.

    Raises:
        OptionError: naming the option.

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
            f"{needed} trials must have reached a rung before any goes on, and budget.n_trials is {budget.n_trials}: "
            "every trial would be pruned at its first rung",
        )


def decision_epochs(study: Study) -> frozenset[int]:
    """The epochs after which the pruner may end a trial; a job need not stop at any other.

    Too many only costs speed, and so does a missing one (epochs trained beyond a prune are thrown away).
    """
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
    """The `reduction_factor` of successive halving and hyperband: one of so many trials goes on from a rung."""
    return _integer(study.pruner.options, "reduction_factor", 3 if study.pruner.name == "hyperband" else 4)


def rungs(min_resource: int, reduction_factor: int, last: int) -> list[int]:
    """The epochs min_resource · reduction_factor ** k that are not after `last`."""
    epochs = (min_resource * reduction_factor**k for k in range(last.bit_length() + 1))
    return [epoch for epoch in epochs if epoch <= last]


def _integer(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    assert isinstance(value, int)
    return value
