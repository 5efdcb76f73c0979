"""`mnist-hpo ui`: start the MLflow UI for the tracking store, and optionally Optuna Dashboard."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
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
"""How long a server may take to exit after SIGTERM before it is killed."""


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="MLflow's port on 127.0.0.1.")] = 5000,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Serve Optuna Dashboard too.")] = False,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="The dashboard's port on 127.0.0.1.")] = 8080,
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
) -> int:
    """Serve the MLflow UI on this machine and, with --dashboard, Optuna Dashboard. Ctrl-C stops both.

    Neither disturbs a running search. The dashboard opens an SQLite storage read-only.

    Example: mnist-hpo ui --dashboard
    """
    servers = list[_Server]()
    if tracking_uri.startswith(("http://", "https://")):
        console().print(f"the tracking server has its own UI: {tracking_uri}")
        _print_studies(tracking_uri, tracking_uri.rstrip("/"))
    else:
        servers.append(_mlflow_ui(tracking_uri, port))
    if dashboard:
        servers.append(_optuna_dashboard(storage, dashboard_port))
    for server in servers:
        _check_free(server)
    if not servers:
        return 0
    with _running(servers) as processes:
        console(to_stderr=True).print(f"starting {' and '.join(server.name for server in servers)} …")
        if not _wait_until_up(servers, processes):
            _check_ports_still_free(servers, processes)
            return _wait(servers, processes)
        for server in servers:
            console().print(f"{server.name}: http://{_HOST}:{server.port}{server.page}", soft_wrap=True)
            if server.tracking_uri:
                _print_studies(server.tracking_uri, f"http://{_HOST}:{server.port}")
        console().print("Ctrl-C stops it" if len(servers) == 1 else "Ctrl-C stops both")
        sys.stdout.flush()
        return _wait(servers, processes)
    return 0


@dataclass(frozen=True)
class _Server:
    """A web server that runs in its own process."""

    name: str
    port: int
    port_option: str
    page: str
    """The page to open: the path after the port."""
    command: Sequence[str]
    tracking_uri: str | None = None
    """The MLflow store that it shows, if any."""


def _mlflow_ui(tracking_uri: str, port: int) -> _Server:
    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        raise UserError(f"{tracking_uri}: nothing is tracked there yet; start a study with: mnist-hpo run STUDY.yaml")
    # One server process is enough for one user; MLflow's default of four would take cores from a search.
    where = ["--backend-store-uri", tracking_uri, "--host", _HOST, "--port", str(port), "--workers", "1"]
    # Access logs would scroll the printed addresses off the screen.
    quiet = ["--uvicorn-opts", "--no-access-log --log-level warning"]
    return _Server(
        "MLflow UI",
        port,
        "--port",
        "/#/experiments",
        [sys.executable, "-m", "mlflow", "ui", *where, *quiet],
        tracking_uri,
    )


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


def _print_studies(tracking_uri: str, address: str) -> None:
    """Print the address of each study's page."""
    from mnist_hpo.tracking.client import connect, user_errors
    from mnist_hpo.tracking.saved_view import view_pages

    with user_errors(tracking_uri):
        for name, page in view_pages(connect(tracking_uri)).items():
            console().print(f"  {name}: {address}{page}", soft_wrap=True)


@contextlib.contextmanager
def _running(servers: Sequence[_Server]) -> Generator[list[subprocess.Popen[bytes]]]:
    """Start the servers, and stop them when the context exits for any reason."""
    # Hide deprecation warnings between libraries from the user. The UI needs no MLflow job execution.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    processes = list[subprocess.Popen[bytes]]()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        for server in servers:
            # In its own session, so that signals reach only us, and we can stop all processes that it has started.
            processes.append(subprocess.Popen(server.command, env=environment, start_new_session=True))
        yield processes
    except KeyboardInterrupt:
        pass  # The normal way to stop the servers.
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C must not leave a server running.
        for process in processes:
            _stop(process)


def _wait_until_up(servers: Sequence[_Server], processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until every server accepts connections. Return False if one has exited instead."""
    while all(process.poll() is None for process in processes):
        if all(_is_up(server, process) for server, process in zip(servers, processes, strict=True)):
            return True
        time.sleep(_POLL_S)
    return False


def _is_up(server: _Server, process: subprocess.Popen[bytes]) -> bool:
    """Return whether this process listens on the port, rather than a server that another command has started."""
    import psutil

    try:
        started = psutil.Process(process.pid)
        listening = [
            connection.laddr.port
            for one in (started, *started.children(recursive=True))
            for connection in one.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
    except psutil.NoSuchProcess:
        return False
    return server.port in listening


def _check_ports_still_free(servers: Sequence[_Server], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Raise an error if a server exited because another program has taken its port since it was checked."""
    for server, process in zip(servers, processes, strict=True):
        if process.poll() is not None:
            _check_free(server)


def _wait(servers: Sequence[_Server], processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until a server exits by itself, which is an error, and return exit code 1."""
    while True:
        for server, process in zip(servers, processes, strict=True):
            if process.poll() is not None:
                print(f"{server.name} has exited unexpectedly with exit code {process.returncode}", file=sys.stderr)
                return 1
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    # Kill the remaining processes of the group, if any.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
