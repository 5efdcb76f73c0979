"""The models by name: the files in `mnist_hpo/models`, and those that installed packages add by an entry point."""

from __future__ import annotations

from functools import cache

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import FlaxModel, Model, SklearnModel
from mnist_hpo.spec.plugins import Plugins

MODELS = Plugins("model", "mnist_hpo.models", "MODEL", "mnist_hpo.models")


@cache
def find_model(name: str) -> Model:
    """Load a model's file.

    Raises:
        UserError: there is no such model, two packages claim the name, or the file does not export a model.

    """
    found = MODELS.load(name)
    if not isinstance(found, FlaxModel | SklearnModel):
        raise UserError(f"the model {name}: its file exports {type(found).__name__}, not a FlaxModel or SklearnModel")
    return found
