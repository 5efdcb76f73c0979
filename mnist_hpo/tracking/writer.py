"""The process that writes MLflow beside a search: it catches up by itself, and ends with the coordinator.

It is started by `tracker`. A search loads MLflow here alone, so that neither its import nor its work slows it down.
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
from mnist_hpo.tracking.messages import Answer, Ended, Ending, Message, Progress, Subject

if TYPE_CHECKING:
    from mnist_hpo.tracking.projection import Projection

_RETRY_S = 5.0
_LAST_PAUSES_S = (1.0, 3.0)
"""Once the search has ended: the pauses between tries that make no progress. The try after them is the last."""
_NICENESS = 10
"""Where all cores are busy training, this process gets about a tenth of one."""


def main(connection_fd: int) -> None:
    """Write what the coordinator sends, until it says that the search has ended, or dies."""
    normal = os.nice(0)
    os.nice(_NICENESS)
    set_mlflow_defaults()
    connection = Connection(connection_fd)
    writer = Writer(*connection.recv(), normal_niceness=normal, send=connection.send)
    threading.Thread(target=_receive, args=(connection, writer), daemon=True).start()
    connection.send(Ended(writer.run()))


def _receive(connection: Connection, writer: Writer) -> None:
    """Pass on what the coordinator sends; end this process when there is no coordinator any more."""
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
        normal_niceness: the priority to take, where that is allowed, once no search needs the cores any more.
        send: called with each warning and with the progress.

    """

    def __init__(
        self, subject: Subject, trials: Iterable[TrialRecord], *, normal_niceness: int, send: Callable[[Answer], None]
    ) -> None:
        self._subject, self._normal_niceness, self._send = subject, normal_niceness, send
        self._known = {trial.number: trial for trial in trials}
        self._changed = dict[int, TrialRecord]()
        self._condition = threading.Condition()
        self._ending: Ending | None = None
        self._furthest = Progress(0)
        self._n_last_failures = 0
        """Failed tries since the search has ended, or since the last progress."""
        self._has_warned = False

    def tell(self, message: Message) -> None:
        """Take in trials as they are now, or that there will be no more."""
        with self._condition:
            if isinstance(message, Ending):
                self._ending = message
            else:
                changed = {trial.number: trial for trial in message}
                self._changed |= changed
                self._known |= changed
            self._condition.notify()

    def run(self) -> str | None:
        """Write until the search has ended and all is written, or until tries make no progress any more.

        Returns:
            Why MLflow does not hold all of it; None if it does.

        Raises:
            SystemExit: the local database was deleted or replaced. MLflow keeps its connections to the lost file, so
                only a new process can write the other one.

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
            except Exception as error:  # (whatever ails MLflow must not end the search)
                cause = first_line(error)
                self._warn_of(cause)
                # What did get through is found again when it is opened anew.
                projection = None
                if not self._may_try_again():
                    return cause

    def _open(self) -> Projection:
        # Here, where a failure is reported: MLflow may even be missing.
        from mnist_hpo.tracking.projection import Projection

        projection = Projection(self._subject)
        with self._condition:
            known = list(self._known.values())
            # All of them: a store that was lost holds none. To push a trial that is written already costs nothing.
            self._changed = dict(self._known)
        projection.open(known)
        if self._has_warned:
            self._send("MLflow can be written again; catching up")
            self._has_warned = False
        return projection

    def _push_changes(self, projection: Projection) -> bool:
        """Wait for changes and push them; return whether all is done."""
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

    def _finish(self, projection: Projection, trials: list[TrialRecord], ending: Ending) -> None:
        """Write all that follows the trials, and check what MLflow holds now."""
        # First: whatever fails after it, the study is not left as running.
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

    def _warn_of(self, cause: str) -> None:
        """Warn once, until it works again."""
        if not self._has_warned:
            self._has_warned = True
            then = "it is tried again" if self._ending else "the search goes on"
            self._send(f"MLflow cannot be written: {cause}; {then}")

    def _may_try_again(self) -> bool:
        """Wait before the next try; return False where there should be none."""
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
