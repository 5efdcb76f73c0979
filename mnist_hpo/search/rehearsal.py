"""Run a study in memory with invented losses: what Optuna refuses late is refused before anything is recorded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import optuna

from mnist_hpo.search.ask_tell import AskTell
from mnist_hpo.search.pruners import decision_epochs
from mnist_hpo.spec.reader import Location
from mnist_hpo.spec.study import Method, Study

_N_STARTUP = 2
"""Trials before the sampler models and the pruner prunes."""
_N_CANDIDATES = 24
"""Among which TPE chooses; that more of them fit in memory is for the option's limits to say."""
_SHORTENED = {
    "tpe": {"n_startup_trials": _N_STARTUP, "n_ei_candidates": _N_CANDIDATES},
    "median": {"n_startup_trials": _N_STARTUP},
}
"""The largest values of options in a rehearsal, by method."""
_N_MODELLED = 5
_N_ENQUEUED = 2
_FAILING = 1
"""The trial that diverges, which the sampler learns of as an infinite loss."""
_N_EPOCHS = 12
"""A trial reports so many epochs, and so many of those after which the pruner may end it."""


def rehearse(study: Study) -> None:
    """Ask, report, prune and tell a few trials, as the scheduler does.

    Everything happens in memory and with its own generators of random numbers: it changes no study's history.

    Raises:
        Exception: whatever the sampler or the pruner raises.
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
        ask_tell = AskTell(short)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            for _ in range(min(study.budget.n_trials, len(short.enqueue) + 1 + _N_STARTUP + _N_MODELLED)):
                _run_trial(short, ask_tell)
        finally:
            optuna.logging.set_verbosity(verbosity)


def _run_trial(study: Study, ask_tell: AskTell) -> None:
    proposal = ask_tell.ask()
    number = proposal.number
    for name, value in proposal.parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it proposes {name} = {value!r}")
    if number == _FAILING:
        ask_tell.fail(number, 1)
        return
    epochs = _epochs(study)
    losses = [_invented_loss(number, epoch) for epoch in epochs]
    for epoch, loss in zip(epochs, losses, strict=True):
        if ask_tell.report(number, epoch, loss) and epoch < study.budget.max_epochs:
            ask_tell.prune(number)
            return
    ask_tell.complete(number, min(losses))


def _epochs(study: Study) -> list[int]:
    first = range(1, min(study.budget.max_epochs, _N_EPOCHS) + 1)
    return sorted({*first, *sorted(decision_epochs(study))[:_N_EPOCHS]})


def _invented_loss(number: int, epoch: int) -> float:
    """Falls from epoch to epoch; trials take turns in being the best, so that some are pruned and some are not."""
    return 1 / epoch + 0.1 * (3 * number % 5)


def _shortened(method: Method) -> Method:
    """Let the sampler model and the pruner prune after few trials, and soon."""
    options = dict(method.options)
    for name, most in _SHORTENED.get(method.name, {}).items():
        value = options.get(name, most)
        assert isinstance(value, int)
        options[name] = min(value, most)
    return Method(name=method.name, **options)


def find_cause(study: Study) -> Location:
    """The option, or else the section, without which a study that cannot be rehearsed could be."""
    defaults = {"sampler": Method(name="random"), "pruner": Method(name="none")}
    for section, default in defaults.items():
        method: Method = getattr(study, section)
        for option in method.options:
            rest = {name: value for name, value in method.options.items() if name != option}
            if _can_be_rehearsed(study, {section: Method(name=method.name, **rest)}):
                return section, option
        if _can_be_rehearsed(study, {section: default}):
            return (section,)
    return ("space",)


def _can_be_rehearsed(study: Study, changes: Mapping[str, Method]) -> bool:
    try:
        rehearse(study.model_copy(update=dict(changes)))
    except Exception:
        return False
    return True
