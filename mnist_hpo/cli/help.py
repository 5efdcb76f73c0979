"""Commands whose help leaves out the type of a flag, which takes no value: Typer would print `<bool>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class Command(TyperCommand):
    """A verb."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the verb's parameters, `--help` included."""
        return _without_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """The program, or a verb that has subcommands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's parameters, `--help` included."""
        return _without_flag_types(super().get_params(ctx))


def _without_flag_types(params: Sequence[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return list(params)
