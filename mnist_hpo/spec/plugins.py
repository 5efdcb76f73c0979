"""Parts that study files name: the modules of a package of ours, and entry points of other distributions.

A distribution adds a policy `mine`, for example, in its `pyproject.toml`:

    [project.entry-points."mnist_hpo.policies"]
    mine = "its_package.its_module:POLICY"
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mnist_hpo.spec.errors import UserError, first_line


@dataclass(frozen=True)
class Plugins:
    """One kind of part.

    Args:
        kind: what one is called, in messages.
        package: the package whose modules are parts.
        attribute: what such a module exports.
        group: of the entry points.

    """

    kind: str
    package: str
    attribute: str
    group: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All that a study file can name.

        Raises:
            UserError: two parts have the same name.

        """
        return (*self._modules, *self._entry_points)

    def load(self, name: str) -> Any:
        """What a part exports.

        Raises:
            UserError: there is no such part, or that of another distribution cannot be loaded.

        """
        if name in self._modules:
            return getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute)
        if name not in self._entry_points:
            raise UserError(f"unknown {self.kind} {name!r}; known are {', '.join(self.names)}")
        entry = self._entry_points[name]
        try:
            return entry.load()
        except Exception as error:  # Whatever a third party's file raises.
            raise UserError(f"the {self.kind} {name} ({entry.value}) cannot be loaded: {first_line(error)}") from error

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        return tuple(module.name for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__))

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            if entry.name in self._modules or (entry.name in found and found[entry.name].value != entry.value):
                raise UserError(
                    f"the entry point {entry.name} = {entry.value} of {self.group}: another {self.kind} has this name; "
                    "uninstall one"
                )
            found[entry.name] = entry
        return found
