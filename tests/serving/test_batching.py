"""Requests share batches of fixed sizes, and each gets its own answers."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import Answers
from mnist_hpo.serving.batching import Batcher, padded_sizes
from mnist_hpo.serving.device import Device

Result = TypeVar("Result")


class Model:
    """Answers with the first pixel of each image. It computes nothing while `may_compute` is cleared."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_compute = threading.Event()
        self.may_compute.set()
        self.fails = False

    def __call__(self, images: NDArray[np.uint8]) -> Answers:
        self.may_compute.wait()
        self.sizes.append(len(images))
        if self.fails:
            raise ZeroDivisionError
        return Answers(images[:, :1].astype(np.float32), images[:, 0] > 100)


def image(value: int, n: int = 1) -> NDArray[np.uint8]:
    return np.full((n, 4), value, np.uint8)


def in_new_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a thread of its own: the browser tests leave an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def batcher_of(model: Model, device: Device, max_images: int = 64) -> Batcher:
    return Batcher(model, device, max_images=max_images, max_wait_s=0.001, report=lambda n, n_waiting: None)


def test_sizes_are_powers_of_two() -> None:
    assert padded_sizes(256) == [32, 64, 128, 256]
    assert padded_sizes(100) == [32, 64, 128]
    assert padded_sizes(1) == [32]


def test_requests_share_batches_and_get_their_own_answers() -> None:
    async def run(device: Device) -> list[Answers]:
        batcher = batcher_of(model, device)
        return await asyncio.gather(*(batcher.answer(image(value, 1 + value % 3)) for value in range(120)))

    model = Model()
    with Device() as device:
        found = in_new_loop(run(device))
    for value, answers in enumerate(found):
        assert answers.probabilities[:, 0].tolist() == [value] * (1 + value % 3)
        assert answers.doubtful.tolist() == [value > 100] * (1 + value % 3)
    assert len(model.sizes) < 10
    assert set(model.sizes) <= {32, 64}


def test_a_request_larger_than_a_batch_is_answered_in_order() -> None:
    async def run(device: Device) -> Answers:
        return await batcher_of(model, device, max_images=32).answer(np.arange(100, dtype=np.uint8)[:, None])

    model = Model()
    with Device() as device:
        found = in_new_loop(run(device))
    assert found.probabilities[:, 0].tolist() == list(range(100))
    assert max(model.sizes) == 32


def test_a_request_that_was_given_up_is_not_computed() -> None:
    async def run(device: Device) -> Answers:
        batcher = batcher_of(model, device)
        model.may_compute.clear()
        first = asyncio.create_task(batcher.answer(image(1)))
        await asyncio.sleep(0.05)  # It is on the device now, and the next ones wait.
        given_up = asyncio.create_task(batcher.answer(image(2, 60)))
        last = asyncio.create_task(batcher.answer(image(3)))
        await asyncio.sleep(0)
        given_up.cancel()
        model.may_compute.set()
        await first
        return await last

    model = Model()
    with Device() as device:
        found = in_new_loop(run(device))
    assert found.probabilities.tolist() == [[3]]
    assert model.sizes == [32, 32]


def test_a_failure_reaches_its_requests_and_no_later_one() -> None:
    async def run(device: Device) -> Answers:
        batcher = batcher_of(model, device)
        model.fails = True
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await batcher.answer(image(1))
        model.fails = False
        return await batcher.answer(image(2))

    model = Model()
    with Device() as device:
        assert in_new_loop(run(device)).probabilities.tolist() == [[2]]
