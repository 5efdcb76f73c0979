"""The progress of trainings outside a search, on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mnist_hpo.cli.common import console


class TrainingProgress:
    """Shows the progress of trainings on standard error; see `api.retraining.RetrainDisplay`."""

    def __init__(self) -> None:
        self._console = console(to_stderr=True)

    def say(self, message: str) -> None:
        """See `RetrainDisplay.say`."""
        self._console.print(message, soft_wrap=True)

    @contextlib.contextmanager
    def training(self, what: str, n_epochs: int) -> Generator[Callable[[], None]]:
        """See `RetrainDisplay.training`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(what, total=n_epochs)
            yield lambda: progress.advance(task)
