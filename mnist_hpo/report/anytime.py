"""How good a search was at any time: the best valid_loss so far against what had been spent by then.

Epochs are put in the order of virtual time, which follows from the study file: two runs of a study agree on every point
but for the seconds, however many workers they had.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Sequence

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.outputs import AnytimePoint, CostToTarget
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


def anytime_points(study: Study, trials: Sequence[TrialRecord]) -> list[AnytimePoint]:
    """Every improvement of the best valid_loss so far; an epoch of any trial counts as soon as it has ended."""
    begun, epochs = _in_virtual_time(study, trials)
    points: list[AnytimePoint] = []
    best, worker_s = math.inf, 0.0
    for n_epochs, (event, result) in enumerate(epochs, start=1):
        worker_s += result.total_s
        if result.valid_loss is not None and result.valid_loss < best:
            best = result.valid_loss
            n_trials = bisect.bisect_left(begun, event)
            points.append(
                AnytimePoint(n_trials=n_trials, n_epochs=n_epochs, worker_s=round(worker_s, 6), valid_loss=best)
            )
    return points


def cost_to_reach(points: Sequence[AnytimePoint], valid_loss: float) -> CostToTarget | None:
    """What had been spent when a loss was first reached, or None where it was not."""
    reached = next((point for point in points if point.valid_loss <= valid_loss), None)
    return reached and CostToTarget(n_trials=reached.n_trials, n_epochs=reached.n_epochs, worker_s=reached.worker_s)


_Event = tuple[int, int]
"""(virtual time, number of the trial whose epoch has ended then): the scheduler's order."""


def _in_virtual_time(
    study: Study, trials: Sequence[TrialRecord]
) -> tuple[list[_Event], list[tuple[_Event, EpochResult]]]:
    """At which event each trial has begun, and all epochs with theirs, both in order."""
    free: list[_Event] = [(0, -1)] * study.slots
    begun: list[_Event] = []
    epochs: list[tuple[_Event, EpochResult]] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        # A trial takes the slot that is free first.
        event, cost = heapq.heappop(free), _epoch_cost(study, trial)
        begun.append(event)
        start = event[0]
        epochs += [((start + cost * epoch, trial.number), result) for epoch, result in trial.epochs.items()]
        if trial.state != "running":
            # A failed trial has held its slot for the epoch that failed, too.
            n_epochs = len(trial.epochs) + (trial.state == "failed")
            heapq.heappush(free, (start + cost * n_epochs, trial.number))
    return begun, sorted(epochs, key=lambda event: event[0])


def _epoch_cost(study: Study, trial: TrialRecord) -> int:
    data = DATASETS[study.dataset].shape(study.split)
    return describe(study.model, {**study.fixed, **trial.parameters}, data).epoch_cost
