"""Run the service until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from mnist_hpo.bundle.portable import Runtime
from mnist_hpo.serving.alias import Follow, follow
from mnist_hpo.serving.app import create_app
from mnist_hpo.serving.device import Device
from mnist_hpo.serving.limits import Limits
from mnist_hpo.serving.log import Log
from mnist_hpo.serving.model import ModelSource
from mnist_hpo.serving.protocol import protocol_of
from mnist_hpo.serving.service import Service

_KEEP_ALIVE_S = 75
_GRACE_S = 30
"""How long requests may take to end after the service was told to."""
_N_READERS = 2
"""Threads that read pictures. A picture may take a few hundred MB while it is read."""
_BACKLOG = 2048
_ACCEPT_S = 0.1
"""How long the connections in a listener's queue are accepted after no more can come."""
_SO_ATTACH_FILTER, _BPF_RETURN = 26, 0x06
"""From the kernel's asm-generic/socket.h and linux/filter.h."""


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    source: ModelSource
    limits: Limits = field(default_factory=Limits)
    max_wait_s: float = 0.001
    """See `Batcher`."""
    runtime: Runtime = "jax"
    """What computes the predictions."""
    token: str | None = None
    hosts: frozenset[str] | None = None
    """See `Guard`."""
    follow: Follow | None = None
    """How to find a new model, if the service shall follow an alias."""
    version: str = "1"


def serve(listener: socket.socket, settings: Settings, log_to: int, ready: Callable[[Service], None]) -> None:
    """Serve a model until SIGTERM or SIGINT. Requests that have begun are answered before it returns.

    Args:
        listener: a bound socket.
        settings: how to serve.
        log_to: the descriptor of the file for logs.
        ready: called once when the service is ready.

    Raises:
        UserError: the model cannot be served.

    """
    with (
        Log(log_to) as log,
        Device() as device,
        ThreadPoolExecutor(_N_READERS, "reader") as readers,
        ThreadPoolExecutor(1, "loader") as loader,
    ):
        _log_warnings(log)
        service = Service(settings.limits, settings.max_wait_s, settings.runtime, device, readers, loader, log)
        failures = list[Exception]()

        @contextlib.asynccontextmanager
        async def lifespan(_: Any) -> AsyncGenerator[None]:
            task = asyncio.create_task(load_and_follow())
            yield
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def load_and_follow() -> None:
            try:
                await service.load(settings.source)
            except Exception as error:  # Whatever it is, the service must end instead of waiting for ever.
                failures.append(error)
                server.should_exit = True
                return
            ready(service)
            if settings.follow is not None:
                await follow(service, settings.follow, settings.source.version)

        app = create_app(
            service, version=settings.version, token=settings.token, hosts=settings.hosts, lifespan=lifespan
        )
        config = uvicorn.Config(
            app,
            http=protocol_of(service),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(config, service)
        server.run(sockets=[listener])
        if failures:
            raise failures[0]


class _Server(uvicorn.Server):
    """Ends normally after a signal, and loses no request that a client has sent before."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle signals; unlike Uvicorn's method, do not raise them again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that clients have made already, then no more, and answer their requests."""
        self._service.is_draining = True
        self._service.log.event("shutting_down", connections=len(self.server_state.connections))
        await _accept_waiting(sockets or [])
        await super().shutdown(sockets)


async def _accept_waiting(listeners: Sequence[socket.socket]) -> None:
    """Let the event loop accept the connections in the queue. Closing the listener would reset them."""
    for listener in listeners:
        _let_nobody_connect(listener)
    await asyncio.sleep(_ACCEPT_S)


def _let_nobody_connect(listener: socket.socket) -> None:
    """Drop what arrives at a listener, so that its queue does not grow. Clients try again, and are refused then.

    The kernel has no call for it, but takes a filter of packets, here the program `return 0`; see socket(7).
    """
    if sys.platform != "linux":
        return
    instructions = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instructions))
    with contextlib.suppress(OSError):  # Some sandboxes have no filters.
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class _ToLog(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.event("warning", source=record.name, message=record.getMessage())


def _log_warnings(log: Log) -> None:
    """Send the warnings of all libraries to the log, so that each of its lines is JSON."""
    logging.getLogger().handlers = [_ToLog(log)]
    # It warns of each damaged form, which has its line already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
