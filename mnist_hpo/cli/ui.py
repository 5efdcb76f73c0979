"""`mnist-hpo ui`: the MLflow UI over the right store."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.cli.common import DEFAULT_TRACKING, TrackingOption, console
from mnist_hpo.spec.errors import UserError

_HOST = "127.0.0.1"


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on 127.0.0.1.")] = 5000,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
) -> None:
    """Open the MLflow UI on this machine; Ctrl-C ends it.

    Example: mnist-hpo ui --port 5001
    """
    if tracking_uri.startswith(("http://", "https://")):
        console().print(f"the tracking server has its own UI: {tracking_uri}")
        return
    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        raise UserError(f"{tracking_uri}: nothing is tracked there yet; start a study with: mnist-hpo run STUDY.yaml")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError(f"port {port} on {_HOST} is taken ({error.strerror}); choose one with --port") from None
    console().print(f"MLflow UI on http://{_HOST}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = ["-m", "mlflow", "ui", "--backend-store-uri", tracking_uri, "--host", _HOST, "--port", str(port)]
    # What MLflow's own parts have against each other says nothing to whoever looks at runs.
    os.execve(sys.executable, [sys.executable, *command], {**os.environ, "PYTHONWARNINGS": "ignore"})
