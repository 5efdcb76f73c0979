"""Clients that keep a service busy, and count what becomes of their requests."""

import json
import socket
import threading
from collections import Counter
from typing import Any

from command import TIMEOUT_S
from served import Served, read_response


class Load:
    """Clients that send one request after another on kept connections, until the service ends or they are stopped.

    A request is lost if the connection was made and no whole response came.
    """

    def __init__(self, served: Served, images: list[list[int]], n_clients: int) -> None:
        body = json.dumps({"images": images}).encode()
        self._request = (
            f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._port = served.port
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.answers: Counter[tuple[str, bytes]] = Counter()
        """By the model's version and its answer."""
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(n_clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, n: int) -> None:
        """Wait until n more requests are answered."""
        target = self.outcomes["answered"] + n
        while self.outcomes["answered"] < target:
            assert any(thread.is_alive() for thread in self._threads), self.outcomes
            self._stopped.wait(0.01)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    def _run(self, number: int) -> None:
        # Every third client makes a new connection for each request.
        keeps = number % 3 != 0
        while not self._stopped.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S)
            except OSError:
                self._count("refused")
                return
            with connection:
                self._use(connection, keeps)

    def _use(self, connection: socket.socket, keeps: bool) -> None:
        while not self._stopped.is_set():
            try:
                connection.sendall(self._request)
                status, headers, body = read_response(connection)
            except OSError as error:
                self._count(f"lost: {error!r}")
                return
            self._count("answered" if status == 200 else f"status {status}")
            if status == 200:
                document: dict[str, Any] = json.loads(body)
                with self._lock:
                    self.answers[
                        document["model"].get("version", ""), json.dumps(document["predictions"]).encode()
                    ] += 1
            if not keeps or headers.get("connection") == "close":
                return

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
