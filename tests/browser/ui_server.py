"""The servers that `mnist-hpo ui` starts, as the browser tests use them."""

import time
from dataclasses import dataclass

import requests
from command import TIMEOUT_S, Folder


@dataclass(frozen=True)
class UiServer:
    """A running `mnist-hpo ui --dashboard`, with the addresses that it printed."""

    folder: Folder
    mlflow: str
    trials: str
    """The page of the study's trials in MLflow."""
    dashboard: str


def wait_until_reachable(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S)
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
