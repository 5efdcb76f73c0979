"""Which slot ran which trial, and when each of its epochs ended, in virtual time: recomputed from the record alone.

The scheduler handles events in the order (virtual finish, trial number); so does this, for any table or figure that
needs the order in which a study was decided.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import training_config, virtual_epoch_cost

Event = tuple[int, int]
"""(virtual time, number of the trial whose epoch has ended then): the scheduler's order."""
_START = -1
"""Sorts the study's start before the events of that time."""


@dataclass(frozen=True)
class SlotSpan:
    """A trial's time in its slot."""

    slot: int
    number: int
    begun_at: Event
    """The end that freed its slot; (0, -1) at the study's start."""
    epoch_units: int
    """Virtual time that each of its epochs takes."""
    n_epochs: int
    """Epochs that have held the slot, with the one in which the trial failed."""

    @property
    def start_units(self) -> int:
        """When it began, in virtual time."""
        return self.begun_at[0]

    @property
    def end_units(self) -> int:
        """When its last epoch so far ended, in virtual time."""
        return self.start_units + self.n_epochs * self.epoch_units

    def epoch_end(self, epoch: int) -> Event:
        """When an epoch, counted from 1, ended."""
        return self.start_units + epoch * self.epoch_units, self.number


def slot_spans(study: Study, trials: Iterable[TrialRecord]) -> list[SlotSpan]:
    """Recompute which slot ran which trial, and when.

    Args:
        study: the study.
        trials: its trials, without gaps in their numbers, or a single one.

    Returns:
        A span a trial, by number. A trial takes the slot that is free first; one under way keeps its slot.

    """
    free: list[tuple[Event, int]] = [((0, _START), slot) for slot in range(study.slots)]
    spans: list[SlotSpan] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if not free:
            break
        begun_at, slot = heapq.heappop(free)
        cost = virtual_epoch_cost(study, training_config(study, trial.number, trial.parameters))
        # The epoch in which a trial fails takes its time too, though the record has no result of it.
        n_epochs = len(trial.epochs) + (trial.state == "failed")
        span = SlotSpan(slot, trial.number, begun_at, cost, n_epochs)
        spans.append(span)
        if trial.state != "running":
            heapq.heappush(free, (span.epoch_end(n_epochs), slot))
    return spans
