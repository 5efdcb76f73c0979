"""Plug-ins that study files name: modules of a package of mnist_hpo, and entry points of other distributions.

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
    """All plug-ins of one kind.

    Args:
        kind: the name of the kind, for messages.
        package: the package whose modules are plug-ins.
        attribute: the name that each such module exports.
        group: the group of the entry points.

    """

    kind: str
    package: str
    attribute: str
    group: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that a study file can use.

        Raises:
            UserError: two plug-ins have the same name.

        """
        return (*self._modules, *self._entry_points)

    def load(self, name: str) -> Any:
        """Return the object that a plug-in exports.

        Raises:
            UserError: there is no such plug-in, or it belongs to another distribution and cannot be loaded.

        """
        if name in self._modules:
            return getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute)
        if name not in self._entry_points:
            raise UserError(f"unknown {self.kind} {name!r}; known are {', '.join(self.names)}")
        entry = self._entry_points[name]
        try:
            return entry.load()
        except Exception as error:  # Third-party code may raise anything.
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
