"""Run a study in memory with made-up losses, to find before the run what Optuna would only refuse during it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import optuna

from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.policy import Measures, Policy, Resume, Start
from mnist_hpo.search.pruners import wrapped_method
from mnist_hpo.spec.reader import Location
from mnist_hpo.spec.study import Method, Study

_N_STARTUP = 2
"""Trials before the sampler fits a model and the pruner prunes."""
_N_CANDIDATES = 24
"""Candidates of TPE and of a Gaussian process. The limits of the options check whether more of them fit in memory."""
_SHORTENED = {
    "tpe": {"n_startup_trials": _N_STARTUP, "n_ei_candidates": _N_CANDIDATES},
    "gp": {"n_startup_trials": _N_STARTUP, "n_candidates": _N_CANDIDATES},
    "cmaes": {"population_size": _N_STARTUP},
    "genetic": {"population_size": _N_STARTUP},
    "nsgaii": {"population_size": _N_STARTUP},
    "nsgaiii": {"population_size": _N_STARTUP},
    "median": {"n_startup_trials": _N_STARTUP},
    "percentile": {"n_startup_trials": _N_STARTUP},
    "patient": {"patience": 1},
}
"""The largest value of each option in a rehearsal, by method."""
_N_MODELLED = 5
_N_ENQUEUED = 2
_FAILING_TRIAL = 1
"""The trial that diverges, which the sampler sees as an infinite loss."""
_N_EPOCHS = 12
"""A trial reports this many epochs, and this many of those after which the pruner may prune it."""


def rehearse(study: Study) -> None:
    """Ask, report, prune and tell a few trials, as the scheduler does.

    Everything happens in memory and with separate random generators, so it does not affect any study's history.

    Raises:
        Exception: an error that the sampler or the pruner raised.
        ValueError: the sampler proposes a number that is not finite.

    """
    short = study.model_copy(
        update={
            "enqueue": study.enqueue[:_N_ENQUEUED],
            "sampler": _shortened(study.sampler),
            "pruner": _shortened(study.pruner),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = make_policy(short)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            _run(short, policy, min(study.budget.n_trials, len(short.enqueue) + 1 + _N_STARTUP + _N_MODELLED))
        finally:
            optuna.logging.set_verbosity(verbosity)


def _run(study: Study, policy: Policy, n_trials: int) -> None:
    """Run this many trials one by one, and resume those that the policy asks to resume."""
    n_started, reached = 0, dict[int, int]()
    while n_started < n_trials:
        match policy.next():
            case Start(parameters):
                for name, value in parameters.items():
                    if isinstance(value, float) and not math.isfinite(value):
                        raise ValueError(f"it proposes {name} = {value!r}")
                number, n_started = n_started, n_started + 1
            case Resume(number):
                pass
            case _:
                return
        reached[number] = _train(study, policy, number, reached.get(number, 0))


def _train(study: Study, policy: Policy, number: int, last_epoch: int) -> int:
    """Run a trial until it ends or is paused, and return its last epoch."""
    if number == _FAILING_TRIAL:
        policy.on_failure(number, 1)
        return 1
    last = study.budget.max_epochs
    first = {*range(1, min(last, _N_EPOCHS) + 1), *sorted(policy.decision_epochs)[:_N_EPOCHS]}
    for epoch in sorted(epoch for epoch in first if epoch > last_epoch):
        advice = policy.on_epoch(number, epoch, _invented_measures(number, epoch))
        if advice == "stop" and epoch < last:
            policy.on_stop(number)
            return epoch
        if advice == "pause" and epoch < last:
            return epoch
    policy.on_complete(number, _invented_measures(number, last))
    return last


def _invented_measures(number: int, epoch: int) -> Measures:
    """Return measures that improve with the epoch. Which trials are best alternates, so that some are pruned.

    The difference between two trials is different after each epoch. If differences were equal, SciPy's Wilcoxon test
    would need all 2^n permutations of their signs.
    """
    loss = (1 + 1e-4 * number) / epoch + 0.1 * (3 * number % 5)
    return {"valid_loss": loss, "valid_accuracy": 1 / (1 + loss), "n_parameters": 1000 + number, "flops": 2000 - number}


def _shortened(method: Method) -> Method:
    """Return the method with options that let the sampler fit a model and the pruner prune after few trials."""
    options = dict(method.options)
    for name, most in _SHORTENED.get(method.name, {}).items():
        value = options.get(name)
        options[name] = min(value, most) if isinstance(value, int) else most
    wrapped = wrapped_method(method)
    if wrapped is not None:
        options["wraps"] = _shortened(wrapped)
    return Method(name=method.name, **options)


def find_cause(study: Study) -> Location:
    """Return the option or, failing that, the section whose removal makes the rehearsal of a study succeed."""
    defaults = {"sampler": Method(name="random"), "pruner": Method(name="none"), "policy": None}
    for section, default in defaults.items():
        method: Method | None = getattr(study, section)
        if method is None:
            continue
        for option in method.options:
            rest = {name: value for name, value in method.options.items() if name != option}
            if _can_be_rehearsed(study, {section: Method(name=method.name, **rest)}):
                return section, option
        if _can_be_rehearsed(study, {section: default}):
            return (section,)
    return ("space",)


def _can_be_rehearsed(study: Study, changes: Mapping[str, Method | None]) -> bool:
    try:
        rehearse(study.model_copy(update=dict(changes)))
    except Exception:
        return False
    return True
