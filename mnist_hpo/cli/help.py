"""Typer commands whose help omits the type of a flag.

A flag takes no value, but Typer prints `<bool>` after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's parameters, `--help` included."""
        return _without_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """The program, or a command that has subcommands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's parameters, `--help` included."""
        return _without_flag_types(super().get_params(ctx))


def _without_flag_types(params: Sequence[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return list(params)
