"""The process that writes MLflow beside a search: it catches up by itself, and ends with the coordinator.

It is started by `tracker`. A search loads MLflow here alone, so that neither its import nor its work holds it up.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from mnist_hpo.spec.errors import first_line
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.tracking.messages import Answer, Ending, Message, Subject

if TYPE_CHECKING:
    from mnist_hpo.tracking.projection import Projection

_RETRY_S = 5.0
_LAST_TRIES = 3
"""Once the search has ended, nobody waits for a server that is away for longer than this takes."""
_NICENESS = 10
"""Where all cores are busy training, this process gets about a tenth of one."""


def main(connection_fd: int) -> None:
    """Write what the coordinator tells, until it says that the search has ended, or dies."""
    os.nice(_NICENESS)
    connection = Connection(connection_fd)
    writer = Writer(*connection.recv(), warn=connection.send)
    threading.Thread(target=_receive, args=(connection, writer), daemon=True).start()
    connection.send(writer.run())


def _receive(connection: Connection, writer: Writer) -> None:
    """Pass on what the coordinator tells; end this process when there is no coordinator any more."""
    while True:
        try:
            writer.tell(connection.recv())
        except (EOFError, ConnectionResetError):
            os._exit(1)


class Writer:
    """Pushes what changed to MLflow.

    Args:
        subject: what is projected.
        trials: the study's so far.
        warn: told once where MLflow cannot be written, and once where it can again.

    """

    def __init__(self, subject: Subject, trials: Iterable[TrialRecord], *, warn: Callable[[Answer], None]) -> None:
        self._subject, self._warn = subject, warn
        self._known = {trial.number: trial for trial in trials}
        self._changed = dict(self._known)
        self._condition = threading.Condition()
        self._ending: Ending | None = None
        self._deadline = float("inf")
        self._n_last_tries = 0
        self._has_warned = False

    def tell(self, message: Message) -> None:
        """Take in trials as they are now, or that there will be no more."""
        with self._condition:
            if isinstance(message, Ending):
                self._ending, self._deadline = message, time.monotonic() + message.timeout_s
            else:
                changed = {trial.number: trial for trial in message}
                self._changed |= changed
                self._known |= changed
            self._condition.notify()

    def run(self) -> bool:
        """Write until all is done, or it is given up; return whether MLflow now holds all of it."""
        projection: Projection | None = None
        while True:
            try:
                if projection is None:
                    projection = self._open()
                if self._push_changes(projection):
                    return True
            except Exception as error:  # (whatever ails MLflow must not end the search)
                self._say_once(f"MLflow cannot be written: {first_line(error)}; the search goes on")
                # What did get through is found again when it is opened anew.
                projection = None
                if self._gave_up():
                    return False

    def _open(self) -> Projection:
        # Here, where a failure is told: MLflow may even be missing.
        from mnist_hpo.tracking.projection import Projection

        projection = Projection(self._subject)
        with self._condition:
            known = list(self._known.values())
        projection.open(known)
        if self._has_warned:
            self._warn("MLflow can be written again; catching up")
            self._has_warned = False
        return projection

    def _push_changes(self, projection: Projection) -> bool:
        """Wait for changes and push them; return whether all is done."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed or self._ending)
            changed, known, ending = dict(self._changed), list(self._known.values()), self._ending
        for number, trial in sorted(changed.items()):
            projection.push(trial)
            with self._condition:
                if self._changed.get(number) is trial:
                    del self._changed[number]
        if changed:
            projection.show_progress(known)
        if ending is None or self._changed:
            return False
        if ending.bundle is not None:
            projection.log_model(*ending.bundle)
        projection.finish(known)
        return True

    def _say_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(message)

    def _gave_up(self) -> bool:
        """Wait before the next try; whether there will be none."""
        with self._condition:
            left = self._deadline - time.monotonic()
            self._condition.wait_for(lambda: self._ending, timeout=min(_RETRY_S, max(left, 0)))
        if not self._ending:
            return False
        self._n_last_tries += 1
        if self._n_last_tries == _LAST_TRIES:
            return True
        time.sleep(min(1.0, max(self._deadline - time.monotonic(), 0)))
        return time.monotonic() >= self._deadline


if __name__ == "__main__":
    main(int(sys.argv[1]))
