"""Options of Optuna's samplers and pruners, taken from the study file and checked against Optuna's own signatures."""

from __future__ import annotations

import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from optuna.exceptions import ExperimentalWarning
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mnist_hpo.spec.errors import shown
from mnist_hpo.spec.reader import nearest

T = TypeVar("T")

_PLAIN = {int, float, str, bool, type(None)}
_FOR_TYPE_CHECKERS = {"Callable": Callable, "Sequence": typing.Sequence, "Mapping": Mapping, "FrozenTrial": object}
"""Names in Optuna's annotations that it does not import at run time."""


class OptionError(ValueError):
    """An option that the method has not got, or whose value it does not take."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def build(kind: Callable[..., T], options: Mapping[str, object], ours: Mapping[str, object]) -> T:
    """Make a sampler or a pruner.

    Args:
        kind: its class.
        options: the study file's.
        ours: what the platform sets itself, which a file may therefore not set.

    Raises:
        OptionError: naming the option where one is to blame.

    """
    known = plain_options(kind, ours)
    for option, value in options.items():
        if option not in known:
            names = ", ".join(known) or "none"
            raise OptionError(option, f"unknown option{nearest(option, list(known))}; known are {names}")
        try:
            TypeAdapter(known[option], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            raise OptionError(option, f"{error.errors()[0]['msg']}, not {shown(value)}") from None
    try:
        with warnings.catch_warnings():
            # Optuna's version is locked: that an option is new or will be removed says nothing to who chose it.
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return kind(**{**options, **ours})
    except (ValueError, TypeError) as error:
        raise OptionError("", str(error)) from None


def plain_options(kind: Callable[..., object], ours: Collection[str]) -> dict[str, Any]:
    """The options that a file can hold, with their types: numbers, texts and booleans; no functions."""
    hints = typing.get_type_hints(kind.__init__, localns=_FOR_TYPE_CHECKERS)
    return {
        name: hint
        for name, hint in hints.items()
        if name not in ("return", *ours) and set(typing.get_args(hint) or (hint,)) <= _PLAIN
    }
