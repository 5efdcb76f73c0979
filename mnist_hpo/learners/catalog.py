"""The models by name: the files in `mnist_hpo/models`, and those that installed packages add by an entry point.

A package adds one in its `pyproject.toml`, and `mlp_mixer` is then a model that study files can name:

    [project.entry-points."mnist_hpo.models"]
    mlp_mixer = "its_package.its_module:MODEL"
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mnist_hpo import models
from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.spec.model import FlaxModel, Model, SklearnModel

GROUP = "mnist_hpo.models"
"""Of the entry points."""


@cache
def model_names() -> tuple[str, ...]:
    """All models that a study can name."""
    return tuple(dict.fromkeys([*_built_in(), *_plug_ins()]))


@cache
def find_model(name: str) -> Model:
    """Load a model's file.

    Raises:
        UserError: there is no such model, two packages claim the name, or the file does not export a model.

    """
    if name in _built_in():
        found: object = importlib.import_module(f"{models.__name__}.{name}").MODEL
    elif name in _plug_ins():
        found = _load(_plug_ins()[name])
    else:
        raise UserError(f"unknown model {name!r}; known are {', '.join(model_names())}")
    if not isinstance(found, FlaxModel | SklearnModel):
        raise UserError(f"the model {name}: its file exports {type(found).__name__}, not a FlaxModel or SklearnModel")
    return found


@cache
def _built_in() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(models.__path__))


@cache
def _plug_ins() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in _built_in() or (entry.name in found and found[entry.name].value != entry.value):
            raise UserError(
                f"the entry point {entry.name} = {entry.value} of {GROUP}: another model has this name; uninstall one"
            )
        found[entry.name] = entry
    return found


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # Whatever a third party's file raises.
        raise UserError(f"the model {entry.name} ({entry.value}) cannot be loaded: {first_line(error)}") from error
