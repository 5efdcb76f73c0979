"""What a training of a model can be told: the model's own hyperparameters, and its family's."""

from __future__ import annotations

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import OPTIMIZATION
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Number, Parameter, ParameterSet
from mnist_hpo.spec.study import ParameterValue

_N_TRAIN = Number(int, default=None, low=1, high=100_000_000)
"""Train on so many of the examples, which are drawn by the training's seed; left out: on all of them."""


def parameters_of(model: str) -> dict[str, Parameter]:
    """All hyperparameters that a training of this model can be told, by name."""
    found = find_model(model)
    of_family = OPTIMIZATION if isinstance(found, FlaxModel) else {}
    return {**found.hyperparameters, **of_family, "n_train": _N_TRAIN}


def complete(model: str, parameters: ParameterSet) -> dict[str, ParameterValue]:
    """The parameter set with the defaults of what it leaves out."""
    values = {name: parameters.get(name, parameter.default) for name, parameter in parameters_of(model).items()}
    return {name: value for name, value in values.items() if value is not None}
