"""Hostile bodies leave the service as it was, and take no memory."""

import contextlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from served import Served, start_command
from test_refusals import BOUNDARY, FORMS, JSON_BODIES

_MAX_GROWTH = 60_000_000
"""Bytes: less than one of the bombs would take if it was decoded, more than the noise of the allocator."""


def test_the_body_of_a_refused_request_is_freed_at_once(service: Served) -> None:
    """Not only when the garbage collector runs, which large bodies do not make it do earlier."""
    body, n_times = b"--x\r\nA: " + b"b" * 10_000_000 + b"\r\n\r\n\r\n--x--\r\n", 7
    process = psutil.Process(service.process.pid)
    assert service.send(body, BOUNDARY).status_code == 400
    before = process.memory_info().rss
    largest = before
    for _ in range(n_times):
        assert service.send(body, BOUNDARY).status_code == 400
        largest = max(largest, process.memory_info().rss)
    assert largest - before < 4 * len(body)


def bomb(width: int, height: int, kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", (width, height)).save(out, kind)
    return out.getvalue()


@pytest.mark.slow
def test_memory_is_flat_and_answers_are_the_same_after_hostile_bodies(
    model_folder: Path, images: NDArray[np.uint8]
) -> None:
    served = start_command(f"{model_folder}/")
    expected = served.predict(images[:5].tolist()).content
    bombs = [bomb(20_000, 20_000, "PNG"), bomb(12_000, 12_000, "JPEG"), bomb(10_000, 4_500, "BMP")[:5_000_000]]
    picture = bomb(300, 300, "PNG")
    hostile: list[Callable[[], requests.Response]] = [
        *(lambda body=body: served.send(body) for body, _, _ in JSON_BODIES.values()),
        *(lambda body=body: served.send(body, BOUNDARY) for body, _, _ in FORMS.values()),
        *(lambda content=content: served.upload(content) for content in bombs),
        *(lambda end=end: served.upload(picture[:end]) for end in range(0, len(picture), 20)),
        lambda: served.upload(picture + b"<script>alert(1)</script>" + b"PK\x03\x04" * 1000),
    ]

    def attack() -> None:
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(_status_of, hostile):
                assert 400 <= found < 500

    process = psutil.Process(served.process.pid)
    attack()
    before = process.memory_info().rss
    for _ in range(5):
        attack()
    assert process.memory_info().rss - before < _MAX_GROWTH
    assert served.predict(images[:5].tolist()).content == expected
    assert served.stop() == 0
    assert not [line for line in served.log() if line["event"] == "internal_error"]


def _status_of(send: Callable[[], requests.Response]) -> int:
    return send().status_code


@pytest.mark.slow
def test_memory_is_flat_over_many_requests(model_folder: Path, images: NDArray[np.uint8]) -> None:
    served = start_command(f"{model_folder}/")
    body = {"images": images[:1].tolist()}

    def client(n: int) -> None:
        with contextlib.closing(requests.Session()) as session:
            for _ in range(n):
                assert session.post(f"{served.url}/v1/predict", json=body).ok

    def run(n: int) -> int:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client, [n // 8] * 8))
        return psutil.Process(served.process.pid).memory_info().rss

    before = run(4_000)
    assert run(16_000) - before < _MAX_GROWTH // 4
    assert served.stop() == 0
