"""What a training is told. Loads no JAX, so that the coordinator can speak of trainings without running any."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_hpo.spec.parameter import ParameterSet


@dataclass(frozen=True)
class TrainingConfig:
    """Everything beside the data that decides what comes out of a training."""

    model: str
    parameters: ParameterSet
    seed: int
    max_epochs: int
    patience_epochs: int | None = None
    schedule_epochs: int | None = None
    """The length of the learning-rate schedule where it is not `max_epochs`: a re-training that stops at the best
    epoch still follows the schedule that the trial followed."""
