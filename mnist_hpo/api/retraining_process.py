"""The child process that `mnist_hpo.retrain` starts with a worker's environment."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path

from mnist_hpo.api.retrain import Failure, Message, Progress, Request
from mnist_hpo.api.studies import recorded_study
from mnist_hpo.runner import Home
from mnist_hpo.spec.errors import UserError
from mnist_hpo.tracking.environment import set_mlflow_defaults


def main(connection_fd: int) -> None:
    """Handle the parent's request to re-train, and reply with the figures or an error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    set_mlflow_defaults()
    from mnist_hpo.api.retraining import retrain_recorded

    connection = Connection(connection_fd)
    request = Request(**connection.recv())
    home = Home(request.storage_url, request.tracking_uri, Path(request.folder))
    try:
        record, file = recorded_study(home.storage_url, request.study)
        figures = retrain_recorded(
            record,
            file.study,
            home,
            number=request.trial,
            n_seeds=request.n_seeds,
            executor=request.executor,
            n_workers=request.n_workers,
            display=_Display(connection),
        )
    except UserError as error:
        connection.send(Failure(str(error)))
    else:
        connection.send(figures)


class _Display:
    """A `RetrainDisplay` that sends messages to the parent; if the parent has died, sending ends this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, message: str) -> None:
        self._connection.send(Message(message))

    @contextlib.contextmanager
    def training(self, what: str, n_epochs: int) -> Generator[Callable[[], None]]:
        n_done = 0

        def advance() -> None:
            nonlocal n_done
            n_done += 1
            self._connection.send(Progress(what, n_done, n_epochs))

        yield advance


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
