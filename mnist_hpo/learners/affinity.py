"""Find trainings that share compiled programs: a worker that has run one of them starts another sooner."""

from __future__ import annotations

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.flax.program import split
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.model import FlaxModel

_ANY_SHAPE = (1, 1, 1)
"""A placeholder: the data has the same shape in all trainings of a study."""


def affinity(config: TrainingConfig) -> str:
    """Return a text that is equal for trainings that share compiled programs."""
    model = find_model(config.model)
    if not isinstance(model, FlaxModel):
        return config.model
    values = complete(config.model, config.parameters)
    program, _ = split(config.model, model, values, image_shape=_ANY_SHAPE, n_classes=0)
    return f"{program}, n_train={values.get('n_train')}"
