"""What an epoch costs in arithmetic: model FLOPs, and units of virtual time. Integers, and the same on any machine."""

from __future__ import annotations

from mnist_hpo.training.hyperparameters import Program

_STEP_UNITS = 200_000
"""What a step costs beside its matrix products, in FLOPs: dispatch, gather, loss. A rough figure is enough: it orders
events, and what matters is only that it is the same everywhere."""


def train_flops(program: Program, n_examples: int) -> int:
    """Model FLOPs of one epoch: 2 forward and 4 backward per multiply-add, over the steps that the core takes."""
    n_steps = n_examples // program.batch_size
    return 6 * program.n_multiply_adds() * n_steps * program.batch_size


def evaluate_flops(program: Program, n_examples: int) -> int:
    """Model FLOPs of one forward pass over all examples."""
    return 2 * program.n_multiply_adds() * n_examples


def epoch_cost(program: Program, *, n_train: int, n_valid: int) -> int:
    """Units of virtual time that an epoch takes."""
    n_steps = n_train // program.batch_size
    return train_flops(program, n_train) + evaluate_flops(program, n_valid) + _STEP_UNITS * (n_steps + 1)
