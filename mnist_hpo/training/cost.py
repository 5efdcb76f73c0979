"""What an epoch costs in arithmetic: model FLOPs, and units of virtual time. Integers, and the same on any machine."""

from __future__ import annotations

from mnist_hpo.training.hyperparameters import Program

_STEP_UNITS = 200_000
"""What a step costs beside its matrix products, in FLOPs: dispatch, gather, loss. A rough figure is enough: it orders
events, and what matters is only that it is the same everywhere."""


def train_flops(program: Program, n_examples: int) -> int:
    """Model FLOPs of one epoch of training, over the steps that the core takes.

    A multiply-add costs 2 in the forward pass, 2 for the weight's gradient and 2 for the input's, which the first layer
    does without.
    """
    first, others = program.multiply_adds()
    n_steps = n_examples // program.batch_size
    return (4 * first + 6 * others) * n_steps * program.batch_size


def epoch_cost(program: Program, *, n_train: int, n_valid: int) -> int:
    """Units of virtual time that an epoch takes."""
    n_steps = n_train // program.batch_size
    validation = 2 * sum(program.multiply_adds()) * n_valid
    return train_flops(program, n_train) + validation + _STEP_UNITS * (n_steps + 1)
