"""What `trials` and `best` print of trials."""

from __future__ import annotations

from pydantic import RootModel

from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.spec.study import ParameterValue, TrialState


class TrialOutput(Output):
    """A trial's results: a function of the study file. What depends on time is in the table (`trials --csv`) alone."""

    number: int
    """Counted from 0."""
    state: TrialState
    reason: str | None
    """Why it failed; null for any other state."""
    given_up: bool
    """Whether it failed because the machine could not train it, rather than because its training diverged."""
    params: dict[str, ParameterValue]
    """The searched hyperparameters."""
    value: float | None
    """The first objective of a complete trial, by default its lowest valid_loss; null for any other state."""
    values: dict[str, float]
    """All objectives of a complete trial, by metric; empty for any other state."""
    valid_loss: dict[int, float]
    """By epoch, counted from 1."""
    best_valid_loss: float | None
    """The lowest of them; null before the first epoch has ended."""
    best_valid_accuracy: float | None
    """At the best epoch, from 0 to 1."""
    best_epoch: int | None
    """The epoch of the lowest valid_loss."""
    n_epochs: int
    """Epochs that have ended."""
    n_parameters: int
    """Numbers that the model learns."""
    train_flops: int
    """Model FLOPs of the training so far, without validation."""


class TrialsOutput(RootModel[list[TrialOutput]]):
    """The trials that were asked for, in the order that was asked for."""


class FrontTrial(Output):
    """A complete trial that no other one dominates."""

    number: int
    values: dict[str, float]
    """The objectives, by metric."""


class BestOutput(TrialOutput):
    """The best trial in full: `params` has the fixed hyperparameters and the defaults too."""

    valid_accuracy: dict[int, float | None]
    """By epoch, from 0 to 1."""
    pareto_front: list[FrontTrial]
    """The complete trials that no other one dominates, by the first objective; with one objective the best alone."""
    machine_dependent: bool
    """Whether another trial of its study was given up because the machine could not train it."""
