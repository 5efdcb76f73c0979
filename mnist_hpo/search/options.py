"""Options of Optuna's samplers and pruners in the study file, checked against Optuna's own signatures."""

from __future__ import annotations

import math
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mnist_hpo.spec.errors import shown
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.study import Method

T = TypeVar("T")

_PLAIN = {int, float, str, bool, type(None), Method}
_MANY = 1_000_000
"""More trials or epochs than any study can have."""

_LIMITS: Mapping[str, tuple[float, float]] = {
    "n_startup_trials": (0, _MANY),
    # TPE keeps a density for each candidate and each observation in memory at once.
    "n_ei_candidates": (1, 10_000),
    # The weight of the prior, in trials.
    "prior_weight": (0, _MANY),
    "n_warmup_steps": (0, _MANY),
    "interval_steps": (1, _MANY),
    "n_min_trials": (1, _MANY),
    "min_resource": (1, _MANY),
    "max_resource": (1, _MANY),
    "reduction_factor": (2, _MANY),
    # The first rung is at min_resource * reduction_factor ** min_early_stopping_rate epochs.
    "min_early_stopping_rate": (0, 20),
    "bootstrap_count": (0, _MANY),
    "population_size": (2, 10_000),
    "crossover_prob": (0, 1),
    "swapping_prob": (0, 1),
    "mutation_prob": (0, 1),
    # With four objectives, 20 make 1,771 reference directions.
    "dividing_parameter": (1, 20),
    "sigma0": (0.001, 1),
    "n_candidates": (16, 100_000),
    # Fitting a Gaussian process takes time with the cube of this.
    "max_points": (10, 2_000),
    "percentile": (0, 100),
    "patience": (0, _MANY),
    "min_delta": (0, 1e300),
    "p_threshold": (0, 1),
    "n_startup_steps": (0, _MANY),
}
"""The smallest and the largest reasonable value, by option. Optuna checks few of them, and some only during a run."""

_FOR_TYPE_CHECKERS = {"Callable": Callable, "Sequence": typing.Sequence, "Mapping": Mapping, "FrozenTrial": object}
"""Names in Optuna's annotations that it does not import at run time."""


class OptionError(ValueError):
    """An option is unknown or has a value that the method does not accept.

    `location` is the option's name, or empty. An option of a method that is itself an option is within that one.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.location = (option,) if option else ()

    def within(self, option: str) -> OptionError:
        """Return the error of a method as an error of the option that names the method."""
        error = OptionError(option, str(self))
        error.location += self.location
        return error


def integer_options(given: Mapping[str, object], **defaults: int) -> dict[str, int]:
    """Return the integer options of a policy, with defaults for those that are not given.

    Raises:
        OptionError: an option is unknown, or its value is out of range.

    """
    for option, value in given.items():
        if option not in defaults:
            raise _unknown(option, defaults)
        if type(value) is not int:
            raise OptionError(option, f"must be a whole number, not {shown(value)}")
        _check_limits(option, value)
    return defaults | {option: value for option, value in given.items() if isinstance(value, int)}


def _unknown(option: str, known: Collection[str]) -> OptionError:
    return OptionError(option, f"unknown option{nearest(option, list(known))}; known are {', '.join(known) or 'none'}")


def build(kind: Callable[..., T], options: Mapping[str, object], ours: Mapping[str, object]) -> T:
    """Create a sampler or a pruner.

    Args:
        kind: the class.
        options: the options in the study file.
        ours: the options that the platform sets, so that a file may not.

    Raises:
        OptionError: an option is unknown or has a value that the class does not accept. Names the option if known.

    """
    known, checked = plain_options(kind, ours), dict[str, object]()
    for option, value in options.items():
        if option not in known:
            raise _unknown(option, known)
        try:
            checked[option] = TypeAdapter(known[option], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            raise OptionError(option, f"{error.errors()[0]['msg']}, not {shown(value)}") from None
        if isinstance(value, int | float):
            _check_limits(option, value)
    try:
        with warnings.catch_warnings():
            # Ignore that an option is experimental or deprecated, because the version of Optuna is locked.
            warnings.simplefilter("ignore")
            return kind(**{**checked, **ours})
    except OptionError:
        raise
    except (ValueError, TypeError) as error:
        raise OptionError("", str(error)) from None


def _check_limits(option: str, value: float) -> None:
    low, high = _LIMITS.get(option, (-math.inf, math.inf))
    if not low <= value <= high:
        raise OptionError(option, f"must be a number from {low:,} to {high:,}, not {value!r}")


def plain_options(kind: Callable[..., object], ours: Collection[str]) -> dict[str, Any]:
    """Return the options that a file can set, with their types: numbers, strings, booleans and methods."""
    hints = typing.get_type_hints(kind.__init__, localns=_FOR_TYPE_CHECKERS)
    return {name: hint for name, hint in hints.items() if name not in ("return", *ours) and _is_plain(hint)}


def _is_plain(hint: object) -> bool:
    return typing.get_origin(hint) is typing.Literal or set(typing.get_args(hint) or (hint,)) <= _PLAIN
