"""The epochs after which a pruner may prune a trial."""

from __future__ import annotations

from mnist_hpo.search.pruners import integer_option, wrapped_method
from mnist_hpo.spec.study import Method, Study


def decision_epochs(study: Study) -> frozenset[int]:
    """Return the epochs after which the pruner may prune a trial; see `Policy.decision_epochs`."""
    return _epochs(study.pruner, study.budget.max_epochs)


def halving_factor(study: Study) -> int:
    """Return the `reduction_factor` of successive halving and hyperband: 1 of this many trials passes a rung."""
    return _factor(study.pruner)


def rungs(min_resource: int, reduction_factor: int, last: int) -> list[int]:
    """Return the epochs min_resource · reduction_factor ** k up to `last`."""
    epochs = (min_resource * reduction_factor**k for k in range(last.bit_length() + 1))
    return [epoch for epoch in epochs if epoch <= last]


def _epochs(method: Method, last: int) -> frozenset[int]:
    match method.name:
        case "none":
            return frozenset()
        case "median" | "percentile" | "threshold":
            warmup, interval = integer_option(method, "n_warmup_steps", 0), integer_option(method, "interval_steps", 1)
            first = warmup if warmup > 0 else interval
            return frozenset([*([1] if warmup <= 1 else []), *range(first, last + 1, interval)])
        case "wilcoxon":
            # Optuna's test needs two epochs.
            return frozenset(range(max(2, integer_option(method, "n_startup_steps", 2)), last + 1))
        case "patient":
            return _epochs_of_patient(method, last)
        case _:
            return frozenset(rungs(integer_option(method, "min_resource", 1), _factor(method), last))


def _epochs_of_patient(method: Method, last: int) -> frozenset[int]:
    first = integer_option(method, "patience", 3) + 2
    wrapped = wrapped_method(method)
    if wrapped is None:
        return frozenset(range(first, last + 1))
    epochs = _epochs(wrapped, last)
    if wrapped.name in ("hyperband", "successive_halving"):
        # A trial that was improving at a rung is judged at the first epoch after it at which it no longer does.
        return frozenset(range(max(first, min(epochs, default=last + 1)), last + 1))
    return frozenset(epoch for epoch in epochs if epoch >= first)


def _factor(method: Method) -> int:
    return integer_option(method, "reduction_factor", 3 if method.name == "hyperband" else 4)
