"""The one thread that computes. Batches are computed one after another; the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

Delivery = Callable[[Result | BaseException], None]


class Device:
    """Runs functions on its thread, and delivers their results in the event loop. It starts and stops as a context."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)

    def __enter__(self) -> Device:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    def run(self, function: Callable[[], Result], deliver: Delivery[Result]) -> None:
        """Run a function on the thread; then call `deliver` in this event loop with its result or its exception."""
        loop = asyncio.get_running_loop()

        def job() -> None:
            try:
                found = function()
            except BaseException as error:  # Of any kind: the requests of the batch wait for it.
                found = error
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(deliver, found)

        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
