"""Errors of the service: each has a code for programs, an HTTP status and a message for people."""

from __future__ import annotations

import http
from collections.abc import Sequence

import orjson

STATUSES = {
    "invalid_request": 400,
    "invalid_json": 400,
    "invalid_multipart": 400,
    "unauthorized": 401,
    "cross_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "too_many_bytes": 413,
    "too_many_images": 413,
    "too_many_pixels": 413,
    "unsupported_media_type": 415,
    "unsupported_format": 415,
    "unknown_host": 421,
    "invalid_images": 422,
    "invalid_parameter": 422,
    "missing_file": 422,
    "damaged_image": 422,
    "no_ink": 422,
    "unsupported_model": 422,
    "head_too_large": 431,
    "internal_error": 500,
    "not_ready": 503,
    "overloaded": 503,
    "too_many_connections": 503,
    "answer_timeout": 503,
}
"""The HTTP status of each code. The README and the OpenAPI document name them, so they are never renamed."""

Headers = Sequence[tuple[bytes, bytes]]

_RETRY_AFTER_S = 1
_CLOSING = ("request_timeout", "body_too_large")
"""After these the rest of the request may still arrive, so the connection cannot be used again."""


class ServiceError(Exception):
    """A request that is refused.

    Args:
        code: one of `STATUSES`.
        message: what is wrong and how to do it right, without data of the request.
        headers: headers of the response.

    """

    def __init__(self, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.code, self.status = code, STATUSES[code]
        self.headers = [*headers, *_headers_of(code, self.status)]
        self.closes = code in _CLOSING

    @property
    def content(self) -> bytes:
        """The JSON body of the response."""
        return orjson.dumps({"error": {"code": self.code, "message": str(self)}})


def _headers_of(code: str, status: int) -> Headers:
    headers = [(b"content-type", b"application/json")]
    if code in _CLOSING:
        headers.append((b"connection", b"close"))
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", str(_RETRY_AFTER_S).encode()))
    if code == "unauthorized":
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
