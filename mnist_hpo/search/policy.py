"""The interface between the scheduler and whatever decides which trial runs next, and how far.

A policy sees a study as of a moment of virtual time: the scheduler tells it of each event in order, also in a replay.
Its decisions must be a function of these events and of the study file alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from mnist_hpo.spec.study import ParameterValue, Study

Measures = Mapping[str, float]
"""What is known of a trial after an epoch, by metric: see `mnist_hpo.spec.study.METRICS`."""


@dataclass(frozen=True)
class Start:
    """Start the next trial, with these values of the searched hyperparameters."""

    parameters: Mapping[str, ParameterValue]


@dataclass(frozen=True)
class Resume:
    """Continue a paused trial from its checkpoint."""

    trial: int


@dataclass(frozen=True)
class Wait:
    """Leave the slot empty until a running trial has finished an epoch."""


@dataclass(frozen=True)
class Finished:
    """Nothing is left to run; trials that are paused stay paused."""


Next = Start | Resume | Wait | Finished

Advice = Literal["continue", "pause", "stop"]
"""What becomes of a trial after an epoch: it trains on, waits to be resumed, or is pruned."""


class Policy(Protocol):
    """Decides which trial runs next, and which is paused or pruned.

    A module of `mnist_hpo.search.policies`, or an entry point of the group `mnist_hpo.policies`, exports a class with
    this interface as `POLICY`.
    """

    extends_in_place: ClassVar[bool]
    """Whether a larger `budget.n_trials` changes no earlier decision. Where it may, an extended study is replayed from
    its first trial; epochs that were computed before are not computed again."""

    def __init__(self, study: Study) -> None:
        """Begin a study.

        Raises:
            OptionError: an option in the study file is unknown, or has a value that is refused.

        """
        ...

    @property
    def decision_epochs(self) -> Collection[int]:
        """The epochs, counted from 1, after which `on_epoch` may say something other than `continue`.

        A job stops at no others. Too many cost speed, and so do too few: epochs trained too far are thrown away.
        """
        ...

    def next(self) -> Next:
        """Say what a free slot does; a `Start` begins the trial of the next number, counted from 0."""
        ...

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """Take note of an epoch, counted from 1, and say what follows; a trial whose training has ended is complete,
        whatever is said."""
        ...

    def on_complete(self, trial: int, values: Mapping[str, float]) -> None:
        """Take note that a trial's training has ended, with these values of the objectives, by metric."""
        ...

    def on_stop(self, trial: int) -> None:
        """Take note that a trial was pruned after its last epoch."""
        ...

    def on_failure(self, trial: int, epoch: int) -> None:
        """Take note that a trial failed in this epoch: its training diverged, or it was given up."""
        ...
