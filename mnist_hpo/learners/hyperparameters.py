"""What a training of a model can be told: the model's own hyperparameters, and its family's."""

from __future__ import annotations

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import OPTIMIZATION
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Number, Parameter, ParameterSet
from mnist_hpo.spec.study import ParameterValue

_MANY = 100_000_000
_FEWEST_FITTED = 100
"""A tenth of the examples is held back to fit an estimator's temperature."""


def parameters_of(model: str) -> dict[str, Parameter]:
    """All hyperparameters that a training of this model can be told, by name.

    Any model's training can be told `n_train`: to learn from so many of the examples, which are drawn by the training's
    seed; left out, from all.
    """
    found = find_model(model)
    if isinstance(found, FlaxModel):
        return {**found.hyperparameters, **OPTIMIZATION, "n_train": Number(int, default=None, low=1, high=_MANY)}
    return {**found.hyperparameters, "n_train": Number(int, default=None, low=_FEWEST_FITTED, high=_MANY)}


def complete(model: str, parameters: ParameterSet) -> dict[str, ParameterValue]:
    """The parameter set with the defaults of what it leaves out."""
    values = {name: parameters.get(name, parameter.default) for name, parameter in parameters_of(model).items()}
    return {name: value for name, value in values.items() if value is not None}
