"""The interface between the scheduler and a policy, which decides which trial runs next and for how many epochs.

The scheduler reports each event to the policy in the order of virtual time, in a replay too. The policy's decisions
must be a function of these events and of the study file alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from mnist_hpo.spec.study import ParameterValue, Study

Measures = Mapping[str, float]
"""A trial's measures after an epoch, by metric; see `mnist_hpo.spec.study.METRICS`."""


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
    """Leave the slot free until a running trial has finished an epoch."""


@dataclass(frozen=True)
class Finished:
    """Nothing is left to run. Paused trials stay paused."""


Next = Start | Resume | Wait | Finished

Advice = Literal["continue", "pause", "stop"]
"""What to do with a trial after an epoch: train on, pause it until it is resumed, or prune it."""


class Policy(Protocol):
    """Decides which trial runs next, and which is paused or pruned.

    A module of `mnist_hpo.search.policies`, or an entry point of the group `mnist_hpo.policies`, exports a class with
    this interface as `POLICY`.
    """

    extends_in_place: ClassVar[bool]
    """Whether earlier decisions stay the same when `budget.n_trials` grows. If not, an extended study is replayed from
    its first trial; epochs that have been computed are not computed again."""

    def __init__(self, study: Study) -> None:
        """Create the policy of a study before its first trial.

        Raises:
            OptionError: an option in the study file is unknown or has a value that the policy refuses.

        """
        ...

    @property
    def decision_epochs(self) -> Collection[int]:
        """The epochs, counted from 1, after which `on_epoch` may return something other than `continue`.

        A job stops only at these. The set affects only speed: an extra epoch interrupts a job without need, and a
        missing one makes a job train epochs that are discarded.
        """
        ...

    def next(self) -> Next:
        """Return what a free slot does next. `Start` starts the trial with the next number, counted from 0."""
        ...

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """Record the measures of an epoch, counted from 1, and return what to do with the trial.

        The answer is ignored if the trial's training has ended: it is then complete.
        """
        ...

    def on_complete(self, trial: int, values: Mapping[str, float]) -> None:
        """Record that a trial is complete, with these values of the objectives by metric."""
        ...

    def on_stop(self, trial: int) -> None:
        """Record that a trial was pruned after its last epoch."""
        ...

    def on_failure(self, trial: int, epoch: int) -> None:
        """Record that a trial failed in this epoch: its training diverged, or it was given up."""
        ...
