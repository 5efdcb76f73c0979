"""What a training costs: its parameters, model FLOPs and virtual time. Integers, and the same on any machine.

Loads JAX only for a Flax model without closed forms, and then only where an architecture is met for the first time.
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
"""What a step costs beside its products, in FLOPs: dispatch, gather, loss. A rough figure is enough: it orders
events, and what matters is only that it is the same everywhere."""


def describe(model: str, parameters: ParameterSet, data: DataShape) -> Description:
    """Count what a training takes.

    Args:
        model: its name.
        parameters: the training's; what is left out has its default.
        data: the split that it learns from.

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
