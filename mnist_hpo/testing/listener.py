"""Collect the events of an executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mnist_hpo.executors.messages import EpochDone, Event, Halted, JobDone, JobLost
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.learners.result import EpochResult

TIMEOUT_S = 120.0
"""Fails a test that hangs. Every test needs far less time, so no result depends on this."""


class Listener:
    """Collects the events of an executor until a condition holds."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.events: list[Event] = []

    def until(self, happened: Callable[[Sequence[Event]], bool]) -> Sequence[Event]:
        """Wait until a function of all events so far returns True; return the events."""
        deadline = time.monotonic() + TIMEOUT_S
        while not happened(self.events):
            assert time.monotonic() < deadline, self.events
            self.events += self.executor.wait(1.0)
        return self.events

    def until_ended(self, *keys: str) -> Sequence[Event]:
        """Wait until the jobs of these trainings, by default of "0", are done or lost, or the executor has halted."""

        def ended(events: Sequence[Event]) -> bool:
            over = {event.key for event in events if isinstance(event, JobDone | JobLost)}
            return over.issuperset(keys or ["0"]) or any(isinstance(event, Halted) for event in events)

        return self.until(ended)

    def results(self, key: str = "0") -> list[EpochResult]:
        """Return the results of a training by epoch. Results that were reported repeatedly must be equal."""
        by_epoch: dict[int, EpochResult] = {}
        for event in self.events:
            if isinstance(event, EpochDone) and event.key == key:
                first = by_epoch.setdefault(event.result.epoch, event.result)
                assert first.same_numbers(event.result)
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def same(first: Sequence[EpochResult], second: Sequence[EpochResult]) -> bool:
    """Return whether two trainings have bit-identical results."""
    return len(first) == len(second) and all(a.same_numbers(b) for a, b in zip(first, second, strict=True))
