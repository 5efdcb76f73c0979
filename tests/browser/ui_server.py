"""What is shown to the browser, and when it is there."""

import time
from dataclasses import dataclass

import requests
from command import TIMEOUT_S, Folder


@dataclass(frozen=True)
class Shown:
    """What `mnist-hpo ui --dashboard` shows, by the addresses that it has printed."""

    folder: Folder
    mlflow: str
    trials: str
    """The study's trials in MLflow."""
    dashboard: str


def wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S)
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "the server never came up"
            time.sleep(0.2)
