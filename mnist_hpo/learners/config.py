"""The configuration of a training. Imports no JAX, because the coordinator uses it without training."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_hpo.spec.parameter import ParameterSet


@dataclass(frozen=True)
class TrainingConfig:
    """Everything except the data that determines the result of a training."""

    model: str
    parameters: ParameterSet
    seed: int
    max_epochs: int
    patience_epochs: int | None = None
    schedule_epochs: int | None = None
    """The length of the learning-rate schedule if it is not `max_epochs`: a re-training that stops at the best epoch
    still follows the trial's schedule."""
