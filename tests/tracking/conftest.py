"""Studies that ran once, new working folders, and tracking servers in every state."""

import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from command import Folder, Killed, killed_small
from tracking_server import TrackingServer

from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="session")
def trials(finished: Folder) -> list[dict[str, Any]]:
    return finished.trials()


@pytest.fixture(scope="session")
def killed(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return killed_small(tmp_path_factory.getbasetemp())


@pytest.fixture
def folder(mnist: PreparedDataset, tmp_path: Path) -> Folder:
    """A new working folder that contains only the study file."""
    folder = Folder(tmp_path)
    folder.write_study()
    return folder


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hanging_server() -> Generator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()
