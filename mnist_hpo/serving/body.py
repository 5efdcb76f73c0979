"""Read the body of a request, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mnist_hpo.serving.errors import ServiceError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class DisconnectedError(Exception):
    """The client has gone; there is nobody to answer."""


async def read_body(receive: Receive, announced: bytes | None, *, max_bytes: int, within_s: float) -> bytes:
    """Return the whole body.

    Args:
        receive: of ASGI.
        announced: the Content-Length header.
        max_bytes: the most bytes of the body.
        within_s: how long it may take to arrive.

    Raises:
        ServiceError: (body_too_large, request_timeout) it is larger, or takes longer.
        DisconnectedError: the client has gone.

    """
    if announced is not None and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if not message.get("more_body"):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise ServiceError("request_timeout", f"the body did not arrive within {within_s:g} seconds") from None


async def discard(receive: Receive, within_s: float) -> None:
    """Receive what the client still sends, so that it comes to read the response, for a limited time."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        pass


def _too_large(max_bytes: int) -> ServiceError:
    return ServiceError("body_too_large", f"the body is larger than {max_bytes:,} bytes")
