"""The slot and the time of each trial and epoch in virtual time.

The scheduler handles events in the order of (virtual finish time, trial number). This module reconstructs that order
for tables and figures.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import recorded_costs

Event = tuple[int, int]
"""(virtual time, number of the trial whose epoch ended at that time): the scheduler's order."""


@dataclass(frozen=True)
class SlotSpan:
    """A period in which a trial occupied a slot; a trial that was paused has several."""

    slot: int
    number: int
    begun_at: Event
    """The event that freed the slot; (0, -1) at the study's start."""
    epoch_units: int
    """The virtual time of each of its epochs."""
    first_epoch: int
    """The first epoch of the span, counted from 1."""
    n_epochs: int
    """Epochs in the slot, including the one in which the trial failed."""

    @property
    def start_units(self) -> int:
        """The start in virtual time."""
        return self.begun_at[0]

    @property
    def end_units(self) -> int:
        """The end of the last epoch so far, in virtual time."""
        return self.start_units + self.n_epochs * self.epoch_units

    def ends(self) -> list[tuple[Event, int]]:
        """Return the event that ended each epoch, with the epoch."""
        return [
            ((self.start_units + (i + 1) * self.epoch_units, self.number), self.first_epoch + i)
            for i in range(self.n_epochs)
        ]


def slot_spans(study: Study, trials: Iterable[TrialRecord]) -> list[SlotSpan]:
    """Compute which slot ran which trial, and when.

    Args:
        study: the study.
        trials: its trials, without gaps in their numbers, or a single one.

    Returns:
        The spans ordered by start, then by trial number. A trial takes the first free slot; a running trial keeps its
        slot.

    """
    ordered = sorted(trials, key=lambda trial: trial.number)
    if not all(trial.started_at_units for trial in ordered):
        ordered = _compute_starts(study, ordered)
    trial_spans = sorted(span for trial in ordered for span in _trial_spans(study, trial))
    free: list[tuple[float, int, int]] = [(0, -1, slot) for slot in range(study.slots)]
    spans: list[SlotSpan] = []
    for start, number, first_epoch, n_epochs, epoch_units, is_under_way in trial_spans:
        freed_at, freed_by, slot = heapq.heappop(free)
        # If the slot was idle, the event after which it was filled is unknown.
        begun_at = (start, freed_by if freed_at == start else -1)
        span = SlotSpan(slot, number, begun_at, epoch_units, first_epoch, n_epochs)
        spans.append(span)
        heapq.heappush(free, (float("inf") if is_under_way else span.end_units, number, slot))
    return spans


def _trial_spans(study: Study, trial: TrialRecord) -> list[tuple[int, int, int, int, int, bool]]:
    """Return (start, number, first epoch, number of epochs, virtual time of an epoch, is running) of each span."""
    # The epoch in which a trial fails also takes time, although no result of it is recorded.
    last = len(trial.epochs) + (trial.state == "failed")
    bounds = list(itertools.pairwise([0, *trial.paused_after, last]))
    epoch_units = recorded_costs(study, trial)["epoch_cost"]
    return [
        (start, trial.number, before + 1, end - before, epoch_units, trial.state == "running" and end == last)
        for start, (before, end) in zip(trial.started_at_units, bounds, strict=False)
    ]


def _compute_starts(study: Study, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Compute when each trial started, for records of earlier versions, in which trials never paused."""
    free: list[Event] = [(0, -1)] * study.slots
    found: list[TrialRecord] = []
    for trial in trials:
        if not free:
            break
        start, _ = heapq.heappop(free)
        found.append(dataclasses.replace(trial, started_at_units=(start,)))
        if trial.state != "running":
            n_epochs = len(trial.epochs) + (trial.state == "failed")
            end = start + n_epochs * recorded_costs(study, trial)["epoch_cost"]
            heapq.heappush(free, (end, trial.number))
    return found
