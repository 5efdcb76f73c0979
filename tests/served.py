"""Start a service in a process of its own, and talk to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests
from command import ENVIRONMENT, PROGRAM, TIMEOUT_S

from mnist_hpo.bundle.writing import ModelDescription, write_bundle
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples

PROGRAM_WITH_LIMITS = Path(__file__).with_name("serving_program.py")
PARAMETERS = {"depth": 1, "width": 32, "precision": "fp32"}
TOKEN = "a-token-that-is-long-enough"


class Served:
    """A running service. Its standard error goes to a file, so that it never waits for a reader.

    The file is opened again to read it: a duplicate of the service's descriptor shares its position, so that a seek to
    the start would let the service write over its first lines.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None, **environment: str) -> None:
        self._err = tempfile.NamedTemporaryFile("w")  # noqa: SIM115  # It lives as long as the process.
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
            env=ENVIRONMENT | environment,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        assert "http://" in self.first_line, self.err()
        self.port = int(self.first_line.rstrip().rstrip("/").rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=TIMEOUT_S)

    def predict(self, images: Any, query: str = "", **headers: str) -> requests.Response:
        """Send images as JSON."""
        return requests.post(
            f"{self.url}/v1/predict{query}", json={"images": images}, headers=headers, timeout=TIMEOUT_S
        )

    def send(self, body: bytes, content_type: str = "application/json", query: str = "") -> requests.Response:
        return requests.post(
            f"{self.url}/v1/predict{query}", data=body, headers={"Content-Type": content_type}, timeout=TIMEOUT_S
        )

    def upload(self, content: bytes, query: str = "", **fields: str) -> requests.Response:
        """Send a picture as a form."""
        return requests.post(
            f"{self.url}/v1/predict{query}", files={"file": ("x", content)}, data=fields, timeout=TIMEOUT_S
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def err(self) -> str:
        return Path(self._err.name).read_text()

    def log(self) -> list[dict[str, Any]]:
        """Return the lines written so far; the last one may still be incomplete."""
        complete, _, _ = self.err().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def stop(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


def write_model(directory: Path, seed: int) -> Path:
    """Write a network with initial weights, which answers other images differently, as a bundle."""
    blank = Examples(np.zeros((1, 28, 28, 1), np.uint8), np.zeros(1, np.uint8))
    learner = LearnerFactory().make(TrainingConfig("mlp", PARAMETERS, seed, 1), blank, n_classes=10)
    tensors = learner.model(learner.start())
    provenance = {"study": "small", "trial": seed, "dataset_digest": "0" * 64}
    write_bundle(directory, ModelDescription("mlp", PARAMETERS, (28, 28, 1), 10), tensors, provenance)
    return directory


def start_command(*arguments: str, **environment: str) -> Served:
    """Start `mnist-hpo serve` on a free port."""
    return Served([str(PROGRAM), "serve", *arguments, "--port", "0"], **environment)


def start_program(folder: Path, **settings: Any) -> Served:
    """Start a service with other limits than those of the command."""
    command = [sys.executable, str(PROGRAM_WITH_LIMITS), str(folder), json.dumps(settings)]
    return Served(command, PYTHONPATH=os.pathsep.join(sys.path))


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one response; return its status, its headers with names in lower case, and its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed before the end of a response")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed before the end of a response")
        body += part
    return int(first.split()[1]), headers, body


def code_of(content: bytes) -> str:
    """Return the code of an error; also check that there is nothing else but a message."""
    document = json.loads(content)
    assert document.keys() == {"error"}
    assert document["error"].keys() == {"code", "message"}
    assert document["error"]["message"]
    return document["error"]["code"]
