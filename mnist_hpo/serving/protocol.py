"""The HTTP connection: what has to be limited before there is a request.

Uvicorn limits neither the size of a request's head nor the time it takes, and it closes idle connections at shutdown
even if a request is on its way. Errors of HTTP itself are answered here, in the form of all other errors.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.serving.headers import SECURITY_HEADERS
from mnist_hpo.serving.service import Service

_DRAIN_S = 1.0
"""How long a connection without a request stays open after the service was told to end."""


def protocol_of(service: Service) -> type[HttpToolsProtocol]:
    """Return the protocol of a service's connections."""

    class Protocol(_LimitedProtocol):
        pass

    Protocol.service = service
    return Protocol


class _LimitedProtocol(HttpToolsProtocol):
    service: Service

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        limits = self.service.limits
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and sys.platform == "linux":
            # Close the connection of a client that reads no response.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1e3 * limits.answer_s))
        if len(self.connections) > limits.connections:
            self._refuse(ServiceError("too_many_connections", f"{limits.connections} connections are open; try later"))
            return
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_in_head = self._is_in_head
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        # Of the part in which a head begins, `on_header` counts what is complete.
        self._head_bytes += len(data) if was_in_head else 0
        if self._head_bytes > self.service.limits.head_bytes:
            self.send_400_response("")
        elif self._deadline is None:
            self._set_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._unset_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        max_bytes = self.service.limits.head_bytes
        if self._head_bytes > max_bytes:
            self._refuse(ServiceError("head_too_large", f"the request's headers are larger than {max_bytes:,} bytes"))
        else:
            self._refuse(ServiceError("invalid_request", "the request is not HTTP/1.1"))

    def shutdown(self) -> None:
        """Answer what comes within `_DRAIN_S`; the guard asks the client to close the connection then."""
        self.loop.call_later(_DRAIN_S, super().shutdown)

    def _count(self, n_bytes: int) -> None:
        self._head_bytes += n_bytes
        if self._head_bytes > self.service.limits.head_bytes:
            raise ValueError("head too large")  # The parser stops, and `send_400_response` is called.

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.service.limits.receive_s, self._refuse_late)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse_late(self) -> None:
        within_s = self.service.limits.receive_s
        self._refuse(
            ServiceError("request_timeout", f"the request's headers did not arrive within {within_s:g} seconds")
        )

    def _refuse(self, error: ServiceError) -> None:
        """Answer without a request, and close the connection."""
        content = error.content
        headers = [
            *self.server_state.default_headers,
            *((name, value) for name, value in error.headers if name != b"connection"),
            *SECURITY_HEADERS,
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + content)
        self.transport.close()
        self.service.metrics.request("none", error.status, 0)
        client = self.client[0] if self.client else None
        self.service.log.event("refused", client=client, status=error.status, code=error.code)
