"""Every request that is refused gets its status, its code and a message, and the service goes on."""

import json
from typing import Any

import pytest
from served import Served, code_of, read_response

BLANK = [0] * 784
BOUNDARY = "multipart/form-data; boundary=x"


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    disposition = 'Content-Disposition: form-data; name="{}"; filename="f"'
    return b"".join(b"--x\r\n" + disposition.format(n).encode() + b"\r\n\r\n" + c + b"\r\n" for n, c in parts) + end


JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "invalid_json"),
    "cut off": (b'{"images": [[0, 0', 400, "invalid_json"),
    "NaN": (json.dumps({"images": [[float("nan")] * 784]}).encode(), 400, "invalid_json"),
    "Infinity": (json.dumps({"images": [[float("inf")] * 784]}).encode(), 400, "invalid_json"),
    "not UTF-8": (b'{"images": "\xff\xfe"}', 400, "invalid_json"),
    "deep nesting": (b'{"images":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json"),
    "a list": (b"[]", 422, "invalid_images"),
    "no images": (b"{}", 422, "invalid_images"),
    "an unknown field": (b'{"images": [], "image": []}', 422, "invalid_images"),
    "an empty list": (b'{"images": []}', 422, "invalid_images"),
    "a huge integer": (b'{"images": [[1' + b"0" * 100_000 + b"]]}", 400, "invalid_json"),
    "many empty images": (b'{"images": [' + b"[]," * 255 + b"[]]}", 422, "invalid_images"),
    "too many images": (b'{"images": [' + b"[]," * 256 + b"[]]}", 413, "too_many_images"),
    "too large": (b'{"images": [[' + b" " * 2_100_000 + b"]]}", 413, "body_too_large"),
}
"""Bodies of application/json, with the status and the code of the refusal."""

PIXELS: dict[str, Any] = {
    "one too few": [BLANK[1:]],
    "one too many": [[*BLANK, 0]],
    "of different sizes": [BLANK, [0]],
    "negative": [[-1, *BLANK[1:]]],
    "above 255": [[256, *BLANK[1:]]],
    "a fraction": [[0.5, *BLANK[1:-1], 200]],
    "scaled to 0..1": [[1.0, *([0.0] * 783)]],
    "text": [["0"] * 784],
    "null": [[None] * 784],
    "true": [[True, *BLANK[1:]]],
    "objects": [[{}] * 784],
    "one image without a list around it": BLANK,
    "a number": [5],
    "text instead of an image": ["\x00" * 784],
}
"""Images that are not 784 whole numbers from 0 to 255."""

FORMS: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "invalid_multipart"),
    "no form": (b"abc", 400, "invalid_multipart"),
    "cut off": (form(("file", b"abc"), end=b""), 400, "invalid_multipart"),
    "no file": (form(("line", b"true")), 422, "missing_file"),
    "an empty file": (form(("file", b"")), 422, "missing_file"),
    "a field twice": (form(("file", b"a"), ("file", b"b")), 400, "invalid_multipart"),
    "many fields": (form(*((f"f{i}", b"") for i in range(1000))), 400, "invalid_multipart"),
    "an unknown field": (form(("file", b"a"), ("lines", b"true")), 422, "invalid_parameter"),
    "an unknown value": (form(("file", b"a"), ("line", b"maybe")), 422, "invalid_parameter"),
    "a part without a name": (b"--x\r\n\r\nabc\r\n--x--\r\n", 400, "invalid_multipart"),
    "a huge header": (b"--x\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n\r\n--x--\r\n", 400, "invalid_multipart"),
    "text": (form(("file", b"no picture")), 415, "unsupported_format"),
    "SVG": (form(("file", b'<svg xmlns="http://www.w3.org/2000/svg"/>')), 415, "unsupported_format"),
    "an archive with a picture behind it": (form(("file", b"PK\x03\x04\x89PNG\r\n\x1a\n")), 415, "unsupported_format"),
    "HTML with a picture behind it": (form(("file", b"<html>\x89PNG\r\n\x1a\n")), 415, "unsupported_format"),
    "a damaged PNG": (form(("file", b"\x89PNG\r\n\x1a\n" + b"\0" * 50)), 422, "damaged_image"),
    "too large": (form(("file", b"\0" * 11_000_000)), 413, "body_too_large"),
}
"""Bodies of multipart/form-data, with the status and the code of the refusal."""


@pytest.mark.parametrize("name", JSON_BODIES)
def test_bodies_that_are_no_images_are_refused(service: Served, name: str) -> None:
    body, status, code = JSON_BODIES[name]
    refused = service.send(body)
    assert (refused.status_code, code_of(refused.content)) == (status, code)


@pytest.mark.parametrize("name", PIXELS)
def test_other_pixels_are_refused(service: Served, name: str) -> None:
    refused = service.predict(PIXELS[name])
    assert (refused.status_code, code_of(refused.content)) == (422, "invalid_images")


@pytest.mark.parametrize("name", FORMS)
def test_forms_without_a_picture_are_refused(service: Served, name: str) -> None:
    body, status, code = FORMS[name]
    refused = service.send(body, BOUNDARY)
    assert refused.status_code == status, refused.content
    assert code_of(refused.content) == code


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("text/plain", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("", 415, "unsupported_media_type"),
        ("multipart/form-data", 400, "invalid_multipart"),
        (f"multipart/form-data; boundary={'x' * 1000}", 400, "invalid_multipart"),
    ],
)
def test_other_content_types_are_refused(service: Served, content_type: str, status: int, code: str) -> None:
    refused = service.send(b"{}", content_type)
    assert (refused.status_code, code_of(refused.content)) == (status, code)


@pytest.mark.parametrize("query", ["?include=everything", "?line=true", "?include=pixels&x=1", "?" + "a=1&" * 50])
def test_unknown_parameters_are_refused(service: Served, query: str) -> None:
    refused = service.predict([BLANK], query)
    assert (refused.status_code, code_of(refused.content)) == (422, "invalid_parameter")


@pytest.mark.parametrize("path", ["/v1", "/v2/predict", "/v1/predict/", "/../etc/passwd", "/%2e%2e/app.py", "/assets/"])
def test_other_paths_do_not_exist(service: Served, path: str) -> None:
    with service.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, _, body = read_response(connection)
    assert (status, code_of(body)) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/predict"), ("POST", "/"), ("DELETE", "/v1/model")])
def test_other_methods_are_refused(service: Served, method: str, path: str) -> None:
    with service.connect() as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, headers, body = read_response(connection)
    assert (status, code_of(body)) == (405, "method_not_allowed")
    assert headers["allow"]


@pytest.mark.parametrize("request_line", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n"])
def test_what_is_not_http_is_refused(service: Served, request_line: bytes) -> None:
    with service.connect() as connection:
        connection.sendall(request_line)
        status, _, body = read_response(connection)
    assert (status, code_of(body)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ("Content-Length: -1", 400, "invalid_request"),
        ("Content-Length: two", 400, "invalid_request"),
        ("Content-Length: +2", 400, "invalid_request"),
        ("Content-Length: 2\r\nContent-Length: 3", 400, "invalid_request"),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 400, "invalid_request"),
        (f"Content-Length: {2**63}", 413, "body_too_large"),
        (f"Content-Length: {2**200}", 400, "invalid_request"),
    ],
)
def test_lengths_that_are_wrong_or_in_doubt_are_refused(service: Served, headers: str, status: int, code: str) -> None:
    start = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with service.connect() as connection:
        connection.sendall(f"{start}{headers}\r\n\r\n{{}}".encode())
        found, _, body = read_response(connection)
    assert (found, code_of(body)) == (status, code)


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ({"Host": "attacker.example"}, 421, "unknown_host"),
        ({"Origin": "http://attacker.example"}, 403, "cross_origin"),
        ({"Origin": "null"}, 403, "cross_origin"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
def test_requests_of_other_pages_are_refused(service: Served, header: dict[str, str], status: int, code: str) -> None:
    refused = service.predict([BLANK], **header)
    assert (refused.status_code, code_of(refused.content)) == (status, code)
    assert service.predict([BLANK], Origin=service.url).ok
