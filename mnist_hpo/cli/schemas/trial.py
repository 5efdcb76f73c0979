"""What `trials` and `best` print about trials."""

from __future__ import annotations

from pydantic import RootModel

from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.spec.study import ParameterValue, TrialState


class TrialOutput(Output):
    """A trial's results: a function of the study file. Only `trials --csv` has columns that depend on time."""

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
    """The first objective of a complete trial, by default its valid_loss; null in any other state."""
    values: dict[str, float]
    """All objectives of a complete trial by metric; empty in any other state."""
    valid_loss: dict[int, float]
    """By epoch, counted from 1."""
    best_valid_loss: float | None
    """The valid_loss at `best_epoch`; null before the first epoch has ended."""
    best_valid_accuracy: float | None
    """The validation accuracy at `best_epoch`, from 0 to 1."""
    best_epoch: int | None
    """The epoch whose model the trial keeps: that of the lowest valid_loss or, with `keep: last`, the last one."""
    n_epochs: int
    """Epochs that have ended."""
    n_parameters: int
    """Number of trainable parameters of the model."""
    train_flops: int
    """Model FLOPs of training so far; validation is not counted."""


class TrialsOutput(RootModel[list[TrialOutput]]):
    """The selected trials in the requested order."""


class FrontTrial(Output):
    """A complete trial that no other trial dominates."""

    number: int
    values: dict[str, float]
    """The objectives, by metric."""


class BestOutput(TrialOutput):
    """All about the best trial: `params` has the fixed and the default hyperparameters too."""

    valid_accuracy: dict[int, float | None]
    """By epoch counted from 1; from 0 to 1."""
    pareto_front: list[FrontTrial]
    """The complete trials that no other trial dominates, by the first objective; with one objective, the best trial."""
    machine_dependent: bool
    """Whether another trial of its study was given up because the machine could not train it."""
