"""Hear an executor out."""

import time
from collections.abc import Callable, Sequence

from mnist_hpo.executors.job import EpochDone, Event, Halted, JobDone, JobLost
from mnist_hpo.executors.local import LocalExecutor
from mnist_hpo.learners.result import EpochResult

LONG_S = 120.0
"""Far more than anything here takes: it ends a test that hangs, and decides nothing else."""


class Listener:
    """Hears an executor until something has happened."""

    def __init__(self, executor: LocalExecutor) -> None:
        self.executor = executor
        self.events: list[Event] = []

    def until(self, happened: Callable[[Sequence[Event]], bool]) -> Sequence[Event]:
        deadline = time.monotonic() + LONG_S
        while not happened(self.events):
            assert time.monotonic() < deadline, self.events
            self.events += self.executor.wait(1.0)
        return self.events

    def until_ended(self, *keys: str) -> Sequence[Event]:
        def ended(events: Sequence[Event]) -> bool:
            over = {event.key for event in events if isinstance(event, JobDone | JobLost)}
            return over.issuperset(keys or ["0"]) or any(isinstance(event, Halted) for event in events)

        return self.until(ended)

    def results(self, key: str = "0") -> list[EpochResult]:
        """By epoch; a result that was told twice must have been the same."""
        by_epoch: dict[int, EpochResult] = {}
        for event in self.events:
            if isinstance(event, EpochDone) and event.key == key:
                known = by_epoch.setdefault(event.result.epoch, event.result)
                assert known.same_numbers(event.result)
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def same(first: Sequence[EpochResult], second: Sequence[EpochResult]) -> bool:
    return len(first) == len(second) and all(a.same_numbers(b) for a, b in zip(first, second, strict=True))
