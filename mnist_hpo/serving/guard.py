"""What every request passes: hosts and origins, the token, the limits of number and time, headers, logs and figures."""

from __future__ import annotations

import asyncio
import hmac
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from mnist_hpo.serving.body import DisconnectedError, Message, Receive, discard
from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.serving.headers import SECURITY_HEADERS
from mnist_hpo.serving.service import Service

Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DISCARD_S = 2.0
"""How long the rest of a refused body is received, so that the client reads the refusal."""

_MAX_LOGGED_PATH = 100


class Guard:
    """ASGI middleware around the app.

    Args:
        app: the app.
        service: the state of the service.
        token: if set, the bearer token of requests to /v1/ and /metrics.
        hosts: names that the Host header may have, without the port; None for all. A service on a loopback address
            knows its names, so that no page can reach it by a name of its own (DNS rebinding).
        routes: the paths that logs and figures name; all others are counted as one.

    """

    def __init__(
        self, app: App, service: Service, *, token: str | None, hosts: frozenset[str] | None, routes: frozenset[str]
    ) -> None:
        self._app, self._service = app, service
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._hosts, self._routes = hosts, routes
        self._n_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _Response(send, self._service)
        start = time.perf_counter()
        self._n_requests += 1
        try:
            await self._answer(scope, receive, response)
        finally:
            self._n_requests -= 1
            self._report(scope, response.status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, response: _Response) -> None:
        try:
            self._check(scope)
            async with asyncio.timeout(self._service.limits.answer_s):
                await self._app(scope, receive, response.send)
            return
        except ServiceError as found:
            # The traceback refers to this frame, and thereby to itself: the body would stay in memory until the garbage
            # collector ran.
            error = found.with_traceback(None)
        except DisconnectedError:
            return
        except TimeoutError:
            error = ServiceError("answer_timeout", "the answer took too long; try again later, or send fewer images")
        except Exception as found:  # A bug: the client gets an answer, and the log has the details.
            self._service.log.event("internal_error", error=repr(found), details=traceback.format_exc())
            error = ServiceError("internal_error", "an internal error; the service's log has the details")
        if response.status == 0:
            await response.refuse(error, receive)

    def _check(self, scope: Scope) -> None:
        limits = self._service.limits
        if self._n_requests > limits.requests:
            raise ServiceError("overloaded", f"{limits.requests} requests are being answered; try again in a second")
        host = origin = authorization = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise ServiceError("unknown_host", "the Host header is none of this service's names (see --allow-host)")
        if origin and origin.partition(b"://")[2].lower() != host.lower():
            raise ServiceError("cross_origin", "requests from pages of other origins are refused")
        path: str = scope["path"]
        is_open = self._authorization is None or not (path.startswith("/v1/") or path == "/metrics")
        if not is_open and not hmac.compare_digest(authorization, self._authorization or b""):
            raise ServiceError("unauthorized", "send the header Authorization: Bearer TOKEN")

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        path: str = scope["path"]
        self._service.metrics.request(path if path in self._routes else "other", status, seconds)
        client = scope.get("client")
        self._service.log.event(
            "request",
            client=client[0] if client else None,
            method=scope["method"],
            path=path[:_MAX_LOGGED_PATH],
            status=status,
            ms=round(1e3 * seconds, 3),
            images=scope["state"].get("n_images", 0),
        )


class _Response:
    """Adds the headers that all responses share, and remembers the status."""

    def __init__(self, send: Send, service: Service) -> None:
        self._send, self._service = send, service
        self.status = 0
        """0 until the response begins."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            if self._service.is_draining:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    async def refuse(self, error: ServiceError, receive: Receive) -> None:
        content = error.content
        headers = [*error.headers, (b"content-length", str(len(content)).encode())]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        if error.closes:
            await self.send({"type": "http.response.body", "body": content, "more_body": True})
            await discard(receive, _DISCARD_S)
            content = b""
        await self.send({"type": "http.response.body", "body": content})


def _name_of(host: bytes) -> str:
    """Return the name in a Host header, without the port."""
    text = host.decode("latin-1").lower()
    return text.partition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0]
