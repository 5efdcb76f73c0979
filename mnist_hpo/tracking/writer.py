"""The process that writes MLflow during a search. It retries after errors, and exits with the coordinator.

`tracker` starts it. Only this process loads MLflow, so that neither the import nor the writes slow down the search.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.tracking.database import DatabaseReplacedError
from mnist_hpo.tracking.environment import set_mlflow_defaults
from mnist_hpo.tracking.messages import Message, Progress, Reply, SearchEnded, Subject, WriterDone

if TYPE_CHECKING:
    from mnist_hpo.tracking.projection import Projection

_RETRY_S = 5.0
_LAST_PAUSES_S = (1.0, 3.0)
"""After the search: the pauses between attempts without progress. The attempt after them is the last."""
_NICENESS = 10
"""If all cores are busy training, this process gets about a tenth of a core."""


def main(connection_fd: int) -> None:
    """Write what the coordinator sends, until the search ends or the coordinator exits."""
    normal = os.nice(0)
    os.nice(_NICENESS)
    set_mlflow_defaults()
    connection = Connection(connection_fd)
    writer = Writer(*connection.recv(), normal_niceness=normal, send=connection.send)
    threading.Thread(target=_receive, args=(connection, writer), daemon=True).start()
    connection.send(WriterDone(writer.run()))


def _receive(connection: Connection, writer: Writer) -> None:
    """Pass the coordinator's messages to the writer. Exit this process when the coordinator has exited."""
    while True:
        try:
            writer.tell(connection.recv())
        except (EOFError, ConnectionResetError):
            os._exit(1)


class Writer:
    """Writes changed trials to MLflow.

    Args:
        subject: the study and the tracking store.
        trials: the study's trials so far.
        normal_niceness: the niceness to return to, if allowed, after the search.
        send: called with each warning and each progress report.

    """

    def __init__(
        self, subject: Subject, trials: Iterable[TrialRecord], *, normal_niceness: int, send: Callable[[Reply], None]
    ) -> None:
        self._subject, self._normal_niceness, self._send = subject, normal_niceness, send
        self._known = {trial.number: trial for trial in trials}
        self._changed = dict[int, TrialRecord]()
        self._condition = threading.Condition()
        self._ending: SearchEnded | None = None
        self._furthest = Progress(0)
        self._n_last_failures = 0
        """Failed attempts since the search ended, or since the last progress."""
        self._has_warned = False

    def tell(self, message: Message) -> None:
        """Accept changed trials, or the message that the search has ended."""
        with self._condition:
            if isinstance(message, SearchEnded):
                self._ending = message
            else:
                changed = {trial.number: trial for trial in message}
                self._changed |= changed
                self._known |= changed
            self._condition.notify()

    def run(self) -> str | None:
        """Write until the search has ended and everything is written, or until attempts make no more progress.

        Returns:
            What is missing in MLflow and why; None if nothing is.

        Raises:
            SystemExit: the local database was deleted or replaced. MLflow keeps its connections to the old file, so
                only a new process can write to the new one.

        """
        projection: Projection | None = None
        while True:
            try:
                if projection is None:
                    projection = self._open()
                if self._push_changes(projection):
                    return None
            except DatabaseReplacedError as error:
                sys.exit(str(error))
            except Exception as error:  # No error of MLflow may end the search.
                cause = first_line(error)
                self._warn_once(cause)
                # Opening it again finds what was written.
                projection = None
                if not self._wait_to_retry():
                    return cause

    def _open(self) -> Projection:
        # Imported here, where a failure is reported: MLflow may not even be installed.
        from mnist_hpo.tracking.projection import Projection

        projection = Projection(self._subject)
        with self._condition:
            known = list(self._known.values())
            # All trials: the store may have been replaced. Pushing a trial that is already written costs nothing.
            self._changed = dict(self._known)
        projection.open(known)
        if self._has_warned:
            self._send("MLflow can be written again; catching up")
            self._has_warned = False
        return projection

    def _push_changes(self, projection: Projection) -> bool:
        """Wait for changes and push them. Return whether everything is written."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed or self._ending)
            changed, known, ending = dict(self._changed), list(self._known.values()), self._ending
        if ending is not None:
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, 0, self._normal_niceness)
        for number, trial in sorted(changed.items()):
            projection.push(trial)
            with self._condition:
                if self._changed.get(number) is trial:
                    del self._changed[number]
                n_runs = len(self._known) - len(self._changed)
            self._report(Progress(n_runs))
        if ending is None:
            if changed:
                projection.show_progress(known)
            return False
        self._finish(projection, known, ending)
        return True

    def _finish(self, projection: Projection, trials: list[TrialRecord], ending: SearchEnded) -> None:
        """Write the summary, the model and the plots, and check what is in MLflow."""
        # First, so that the study is not shown as running if a later step fails.
        projection.finish(trials)
        self._report(Progress(len(trials), 1))
        if ending.bundle is not None:
            projection.log_model(*ending.bundle)
        self._report(Progress(len(trials), 2))
        projection.log_plots(trials)
        self._report(Progress(len(trials), 3))
        if missing := projection.missing(trials):
            raise UserError(missing)

    def _report(self, progress: Progress) -> None:
        if progress > self._furthest:
            self._furthest, self._n_last_failures = progress, 0
        self._send(progress)

    def _warn_once(self, cause: str) -> None:
        """Warn about the first of a series of failures."""
        if not self._has_warned:
            self._has_warned = True
            then = "retrying" if self._ending else "the search continues"
            self._send(f"MLflow cannot be written: {cause}; {then}")

    def _wait_to_retry(self) -> bool:
        """Wait before the next attempt. Return False if there should be none."""
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=_RETRY_S)
        if not self._ending:
            return True
        if self._n_last_failures == len(_LAST_PAUSES_S):
            return False
        time.sleep(_LAST_PAUSES_S[self._n_last_failures])
        self._n_last_failures += 1
        return True


if __name__ == "__main__":
    main(int(sys.argv[1]))
