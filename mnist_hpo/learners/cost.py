"""The cost of a training: trainable parameters, model FLOPs and virtual time. Integers that are equal on any machine.

Imports JAX only to count a new architecture of a Flax model that has no `counts` function.
"""

from __future__ import annotations

from dataclasses import replace

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import Program, split
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Counts, Description, FlaxModel
from mnist_hpo.spec.parameter import ParameterSet

_STEP_UNITS = 200_000
"""The cost of a step beside its products, in FLOPs: dispatch, gather, loss. A rough figure is enough, because it only
orders events in virtual time; it must only be the same everywhere."""


def describe(model: str, parameters: ParameterSet, data: DataShape) -> Description:
    """Return the cost of a training.

    Args:
        model: the model's name.
        parameters: the hyperparameters; missing ones have their defaults.
        data: the shape of the split to train on.

    """
    found, values = find_model(model), complete(model, parameters)
    data = replace(data, n_train=int(values.get("n_train", data.n_train)))
    if not isinstance(found, FlaxModel):
        return found.describe(data, values)
    program, _ = split(model, found, values, image_shape=data.image_shape, n_classes=data.n_classes)
    return _describe_epoch(_counts(found, program), program.batch_size, data)


def _counts(model: FlaxModel, program: Program) -> Counts:
    if model.counts is not None:
        return model.counts(program.input_shape, program.n_classes, dict(program.architecture))
    # The one place where a coordinator may load JAX: see the contract in pyproject.toml.
    from mnist_hpo.learners.flax.counting import count

    return count(program.model, program.input_shape, program.n_classes, program.architecture)


def _describe_epoch(counts: Counts, batch_size: int, data: DataShape) -> Description:
    n_steps = data.n_train // batch_size
    train_flops = counts.train_flops * n_steps * batch_size
    validation = counts.forward_flops * data.n_valid
    return Description(
        n_parameters=counts.n_parameters,
        flops=counts.forward_flops,
        train_flops=train_flops,
        epoch_cost=train_flops + validation + _STEP_UNITS * (n_steps + 1),
    )
