"""Anytime performance of a search: the best valid_loss so far against the cost so far.

Epochs are in the order of virtual time, which depends only on the study file. Two runs of a study therefore give the
same points, except for the seconds, with any number of workers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.analysis.virtual_time import slot_spans
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@dataclass(frozen=True)
class Spent:
    """The cost of a search up to some event, in the study's virtual order of events."""

    n_trials: int
    """Trials started so far."""
    n_epochs: int
    """Epochs computed so far, over all trials."""
    worker_s: float
    """Worker seconds of these epochs."""


@dataclass(frozen=True)
class AnytimePoint(Spent):
    """An improvement of the best valid_loss so far, with the trials, epochs and worker seconds until then."""

    valid_loss: float


def anytime_points(study: Study, trials: Sequence[TrialRecord]) -> list[AnytimePoint]:
    """Return every improvement of the best valid_loss so far; each epoch of any trial counts when it ends."""
    results = {trial.number: trial.epochs for trial in trials}
    spans = slot_spans(study, trials)
    begun = sorted(span.begun_at for span in spans if span.first_epoch == 1)
    ends = sorted(end for span in spans for end in span.ends() if end[1] in results[span.number])
    points: list[AnytimePoint] = []
    best, worker_s = math.inf, 0.0
    for n_epochs, (event, epoch) in enumerate(ends, start=1):
        result = results[event[1]][epoch]
        worker_s += result.total_s
        if result.valid_loss is not None and result.valid_loss < best:
            best = result.valid_loss
            n_trials = bisect.bisect_left(begun, event)
            points.append(AnytimePoint(n_trials, n_epochs, round(worker_s, 6), best))
    return points


def cost_to_reach(points: Sequence[AnytimePoint], valid_loss: float) -> Spent | None:
    """Return the cost until a loss was first reached, or None if it was not."""
    reached = next((point for point in points if point.valid_loss <= valid_loss), None)
    return reached and Spent(reached.n_trials, reached.n_epochs, reached.worker_s)


def best_after_each_epoch(study: Study, trials: Sequence[TrialRecord]) -> list[float]:
    """Return the lowest valid_loss after each epoch of any trial, in virtual order, from the first loss on."""
    points = anytime_points(study, trials)
    n_epochs = sum(len(trial.epochs) for trial in trials)
    ends = [point.n_epochs for point in points[1:]] + [n_epochs + 1]
    return [point.valid_loss for point, end in zip(points, ends, strict=False) for _ in range(point.n_epochs, end)]
