"""Each limit has its own status and code."""

import contextlib
import io
import time

import numpy as np
import pytest
import requests
from PIL import Image
from served import TOKEN, Served, code_of, read_response

HEAD = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
BLANK = [[0] * 784]


def predict(limited: Served, images: list[list[int]], query: str = "") -> requests.Response:
    return limited.predict(images, query, Authorization=f"Bearer {TOKEN}")


def picture(width: int, height: int, *, noise: bool = False) -> bytes:
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 255
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def upload(limited: Served, content: bytes) -> requests.Response:
    return requests.post(
        f"{limited.url}/v1/predict", files={"file": content}, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    )


def test_within_the_limits_all_is_answered(limited: Served) -> None:
    assert predict(limited, BLANK * 4).ok
    assert upload(limited, picture(100, 100)).ok


def test_the_size_of_bodies_is_limited(limited: Served) -> None:
    refused = [predict(limited, BLANK * 7), upload(limited, picture(99, 300, noise=True))]
    assert [(one.status_code, code_of(one.content)) for one in refused] == [(413, "body_too_large")] * 2


def test_the_size_of_a_chunked_body_is_limited(limited: Served) -> None:
    """It announces no length."""
    with limited.connect() as connection:
        connection.sendall(f"{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(11):
            connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        status, headers, body = read_response(connection)
    assert (status, code_of(body), headers["connection"]) == (413, "body_too_large", "close")


def test_the_pixels_of_a_picture_are_limited_before_they_are_decoded(limited: Served) -> None:
    refused = upload(limited, picture(101, 100))
    assert (refused.status_code, code_of(refused.content)) == (413, "too_many_pixels")
    bomb = upload(limited, picture(3_000, 3_000))
    assert (bomb.status_code, code_of(bomb.content)) == (413, "too_many_pixels")


def test_the_number_of_images_is_limited(limited: Served) -> None:
    refused = [predict(limited, [[]] * 21), predict(limited, BLANK * 3, "?include=saliency")]
    assert [(one.status_code, code_of(one.content)) for one in refused] == [(413, "too_many_images")] * 2
    assert predict(limited, BLANK * 2, "?include=saliency").ok


@pytest.mark.parametrize("headers", ["A: {}\r\n".format("b" * 2000), "A: b\r\n" * 400, "A: {}".format("b" * 4000)])
def test_the_size_of_the_head_is_limited(limited: Served, headers: str) -> None:
    with limited.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        time.sleep(0.05)  # So that it comes in parts; the test does not depend on it.
        connection.sendall(headers.encode() + b"\r\n" * headers.endswith("\n"))
        with contextlib.suppress(ConnectionError):  # It may be refused already.
            connection.sendall(b"x" * 2000)
        status, _, body = read_response(connection)
    assert (status, code_of(body)) == (431, "head_too_large")


@pytest.mark.parametrize("sent", ["", "POST /v1/predict HT", f"{HEAD}Content-Type: application/json\r\n"])
def test_a_head_that_does_not_end_times_out(limited: Served, sent: str) -> None:
    with limited.connect() as connection:
        connection.sendall(sent.encode())
        status, _, body = read_response(connection)
    assert (status, code_of(body)) == (408, "request_timeout")


def test_a_body_that_does_not_end_times_out(limited: Served) -> None:
    with limited.connect() as connection:
        connection.sendall(f"{HEAD}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        status, headers, body = read_response(connection)
    assert (status, code_of(body), headers["connection"]) == (408, "request_timeout", "close")


@pytest.mark.parametrize("start", ["GET /", f"{HEAD}Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n"])
def test_a_client_that_sends_a_byte_at_a_time_times_out(limited: Served, start: str) -> None:
    """Each byte comes in time, and the whole does not."""
    with limited.connect() as connection:
        connection.sendall(start.encode())
        connection.settimeout(0.05)
        received = b""
        while not received:
            with contextlib.suppress(ConnectionError):  # It may be closed already.
                connection.sendall(b" " if start.startswith("POST") else b"a")
            with contextlib.suppress(TimeoutError):
                received = connection.recv(100)
    assert received.startswith(b"HTTP/1.1 408 ")


def test_more_requests_at_once_are_told_to_come_back(limited: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(limited.connect())
            connection.sendall(f"{HEAD}Content-Type: application/json\r\nExpect: 100-continue\r\n".encode())
            connection.sendall(b"Content-Length: 100\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # Its body is awaited now.
        refused = predict(limited, BLANK)
    assert (refused.status_code, code_of(refused.content)) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "1"


def test_more_connections_are_refused(limited: Served) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(limited.connect()) for _ in range(13)]
        status, headers, body = read_response(connections[-1])
    assert (status, code_of(body), headers["retry-after"]) == (503, "too_many_connections", "1")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
def test_without_the_token_nothing_is_answered(limited: Served, header: dict[str, str]) -> None:
    refused = [limited.predict(BLANK, **header), limited.get("/v1/model", **header), limited.get("/metrics", **header)]
    assert [(one.status_code, code_of(one.content)) for one in refused] == [(401, "unauthorized")] * 3
    assert {one.headers["WWW-Authenticate"] for one in refused} == {"Bearer"}
    # What tells nothing needs none, so that a page can ask for it and a supervisor can look.
    assert all(limited.get(path).ok for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"))
