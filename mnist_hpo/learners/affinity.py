"""Which trainings share compiled programs, so that a worker that has run one of them starts another faster."""

from __future__ import annotations

from collections.abc import Hashable

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.flax.program import split
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.model import FlaxModel

_ANY_SHAPE = (1, 1, 1)
"""A placeholder: the data has the same shape in all trainings of a study."""


def affinity(config: TrainingConfig) -> Hashable:
    """Return a key that is equal for trainings that share compiled programs."""
    model = find_model(config.model)
    if not isinstance(model, FlaxModel):
        return config.model
    values = complete(config.model, config.parameters)
    program, _ = split(config.model, model, values, image_shape=_ANY_SHAPE, n_classes=0)
    return program, values.get("n_train")
