"""The hyperparameters of a training: the model's own, and those of its family."""

from __future__ import annotations

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import OPTIMIZATION
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Number, Parameter, ParameterSet
from mnist_hpo.spec.study import ParameterValue

_MANY = 100_000_000
_FEWEST_FITTED = 100
"""The smallest `n_train` of an estimator, so that at least one example is held out to fit its temperature."""


def parameters_of(model: str) -> dict[str, Parameter]:
    """Return all hyperparameters of this model's training, by name.

    All models have `n_train`: the number of training examples to use, drawn with the training's seed; by default all.
    Estimators have `calibration_share`: the share of these examples that is held out to fit the temperature of the
    probabilities.
    """
    found = find_model(model)
    if isinstance(found, FlaxModel):
        return {**found.hyperparameters, **OPTIMIZATION, "n_train": Number(int, default=None, low=1, high=_MANY)}
    return {
        **found.hyperparameters,
        "n_train": Number(int, default=None, low=_FEWEST_FITTED, high=_MANY),
        "calibration_share": Number(float, default=0.1, low=0.01, high=0.5),
    }


def complete(model: str, parameters: ParameterSet) -> dict[str, ParameterValue]:
    """Return hyperparameters completed with the defaults of those that are missing."""
    values = {name: parameters.get(name, parameter.default) for name, parameter in parameters_of(model).items()}
    return {name: value for name, value in values.items() if value is not None}
