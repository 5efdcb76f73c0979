"""`mnist-hpo ui`: the MLflow UI over the right store, and Optuna Dashboard beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    StorageOption,
    TrackingOption,
    console,
)
from mnist_hpo.spec.errors import UserError

_HOST = "127.0.0.1"
_POLL_S = 0.2
_GRACE_S = 10.0
"""A server that is asked to end has so long."""


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="MLflow's port on 127.0.0.1.")] = 5000,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Open Optuna Dashboard too.")] = False,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="Its port on 127.0.0.1.")] = 8080,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
) -> int:
    """Open the MLflow UI on this machine, and Optuna Dashboard beside it; Ctrl-C ends both.

    Neither disturbs a search that is under way; the dashboard opens an SQLite storage for reading only.

    Example: mnist-hpo ui --dashboard
    """
    servers = list[_Server]()
    if tracking_uri.startswith(("http://", "https://")):
        console().print(f"the tracking server has its own UI: {tracking_uri}")
    else:
        servers.append(_mlflow_ui(tracking_uri, port))
    if dashboard:
        servers.append(_optuna_dashboard(storage, dashboard_port))
    for server in servers:
        _check_free(server)
    return _serve(servers) if servers else 0


@dataclass(frozen=True)
class _Server:
    """A web server to be run in a process of its own."""

    name: str
    port: int
    port_option: str
    page: str
    """What to open, after the port."""
    command: Sequence[str]


def _mlflow_ui(tracking_uri: str, port: int) -> _Server:
    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        raise UserError(f"{tracking_uri}: nothing is tracked there yet; start a study with: mnist-hpo run STUDY.yaml")
    # One worker process serves one person; MLflow's default of four takes cores from a search.
    where = ["--backend-store-uri", tracking_uri, "--host", _HOST, "--port", str(port), "--workers", "1"]
    page = "/#/experiments?workflowType=machine_learning"
    return _Server("MLflow UI", port, "--port", page, [sys.executable, "-m", "mlflow", "ui", *where])


def _optuna_dashboard(storage: str, port: int) -> _Server:
    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.exists():
        raise UserError("optuna-dashboard is not installed (the extra `dashboard`); it comes with: scripts/setup --dev")
    from mnist_hpo.storage.connect import address_for_reading

    where = [address_for_reading(storage), "--host", _HOST, "--port", str(port), "--server", "wsgiref", "--quiet"]
    return _Server("Optuna Dashboard", port, "--dashboard-port", "/dashboard", [str(program), *where])


def _check_free(server: _Server) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, server.port))
        except OSError as error:
            raise UserError(
                f"port {server.port} on {_HOST} is taken ({error.strerror}); choose one with {server.port_option}"
            ) from None


def _serve(servers: Sequence[_Server]) -> int:
    """Run servers until a signal asks to end, or one of them has ended by itself; then end them all."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: asked.set())
    # What the libraries have against each other says nothing to whoever looks at runs; nor are there jobs to be run.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In groups of their own: a signal comes to us first, and all that a server has started ends with it.
    processes = [subprocess.Popen(server.command, env=environment, start_new_session=True) for server in servers]
    try:
        for server in servers:
            console().print(f"{server.name}: http://{_HOST}:{server.port}{server.page}", soft_wrap=True)
        console().print("Ctrl-C ends it" if len(servers) == 1 else "Ctrl-C ends both")
        sys.stdout.flush()
        while not asked.wait(_POLL_S):
            for server, process in zip(servers, processes, strict=True):
                if process.poll() is not None:
                    print(f"{server.name} has ended by itself, with exit code {process.returncode}", file=sys.stderr)
                    return 1
        return 0
    finally:
        for process in processes:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    # What is left of the group, if anything is.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
