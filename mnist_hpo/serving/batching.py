"""Answer many requests with one call of the model.

A batch starts as soon as the device is free. Requests that come meanwhile form the next batch, so batches grow with the
load, and a lone request waits for nobody. Under load a batch waits a little, until it is as large as the one before.

Batches are padded to fixed sizes, powers of two, so that nothing is compiled after the start. The model computes every
size in groups of `ROWS` images, so an answer has the same bits alone and in any batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import Answers
from mnist_hpo.serving.device import Device

ROWS = 32
"""The smallest batch: a network computes as many images at once, and a lone image takes hardly less time."""

Answer = Callable[[NDArray[np.uint8]], Answers]


def padded_sizes(max_images: int) -> list[int]:
    """Return the sizes of batches: powers of two from `ROWS` up to the first that holds `max_images`."""
    sizes = [ROWS]
    while sizes[-1] < max_images:
        sizes.append(2 * sizes[-1])
    return sizes


class _Waiting(NamedTuple):
    images: NDArray[np.uint8]
    answers: asyncio.Future[Answers]


class Batcher:
    """Collects the images of requests to batches of one model.

    Args:
        answer: answers images u8[n, F]; called on the device's thread with n one of `padded_sizes`.
        device: where it is called. Batchers may share it.
        max_images: the most images of a batch.
        max_wait_s: how long a batch may wait under load until it is as large as the one before.
        report: called with the number of images of each batch, and with the number that still wait.

    """

    def __init__(
        self,
        answer: Answer,
        device: Device,
        *,
        max_images: int,
        max_wait_s: float,
        report: Callable[[int, int], None],
    ) -> None:
        self._answer, self._device, self._report = answer, device, report
        self._max_images, self._max_wait_s = max_images, max_wait_s
        self._sizes = padded_sizes(max_images)
        self._waiting: deque[_Waiting] = deque()
        self._n_waiting = 0
        self._n_last = 0
        """The number of requests in the last batch."""
        self._is_busy = False
        self._timer: asyncio.Handle | None = None

    async def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Return the answers for images u8[n, F], n > 0, in as many batches as they need."""
        parts = [images[start : start + self._max_images] for start in range(0, len(images), self._max_images)]
        if len(parts) == 1:
            return await self._submit(images)
        found = await asyncio.gather(*map(self._submit, parts))
        return Answers(*map(np.concatenate, zip(*found, strict=True)))

    def _submit(self, images: NDArray[np.uint8]) -> asyncio.Future[Answers]:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(images, loop.create_future())
        self._waiting.append(waiting)
        self._n_waiting += len(images)
        if not self._is_busy and self._timer is None:
            # Not at once: the event loop has other requests in its hands.
            self._timer = loop.call_soon(self._start_or_wait)
        return waiting.answers

    def _start_or_wait(self) -> None:
        is_small = len(self._waiting) < self._n_last and self._n_waiting < self._max_images
        if is_small and self._max_wait_s > 0:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait_s, self._start)
        else:
            self._start()

    def _start(self) -> None:
        self._timer = None
        batch = self._take()
        self._n_last = len(batch)
        if not batch:
            return
        self._is_busy = True
        self._device.run(lambda: self._compute(batch), lambda found: self._deliver(batch, found))

    def _take(self) -> list[_Waiting]:
        """Remove a batch from the queue; requests that were given up meanwhile are left out."""
        batch, n = list[_Waiting](), 0
        while self._waiting and n + len(self._waiting[0].images) <= self._max_images:
            one = self._waiting.popleft()
            self._n_waiting -= len(one.images)
            if not one.answers.done():
                batch.append(one)
                n += len(one.images)
        if n:
            self._report(n, self._n_waiting)
        return batch

    def _compute(self, batch: Sequence[_Waiting]) -> Answers:
        n = sum(len(one.images) for one in batch)
        padded = np.zeros((next(size for size in self._sizes if size >= n), batch[0].images.shape[1]), np.uint8)
        np.concatenate([one.images for one in batch], out=padded[:n])
        return self._answer(padded)

    def _deliver(self, batch: Sequence[_Waiting], found: Answers | BaseException) -> None:
        self._is_busy = False
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_soon(self._start_or_wait)
        start = 0
        for one in batch:
            end = start + len(one.images)
            if one.answers.done():
                pass
            elif isinstance(found, BaseException):
                one.answers.set_exception(RuntimeError(f"the model failed: {found!r}"))
            else:
                one.answers.set_result(Answers(found.probabilities[start:end], found.doubtful[start:end]))
            start = end
