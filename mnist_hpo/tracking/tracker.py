"""The projection beside a search: a process of its own writes it, and the search never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.tracking.messages import Ending, Subject

_BATCH_S = 0.5
"""Changes are gathered for so long, so that quick epochs share a message, and a request."""
_MAX_STARTS = 3
"""A process that dies so often is given up."""
_GRACE_S = 1.0
"""The process is told when to give up, and answers a moment later."""


class Tracker:
    """An observer of the scheduler that has what changed written to MLflow.

    Args:
        subject: what is projected.
        recorded: the trials that the storage holds already.
        warn: told once where MLflow cannot be written, and once where it can again.

    """

    def __init__(self, subject: Subject, recorded: Iterable[TrialRecord], warn: Callable[[str], None]) -> None:
        self._subject, self._warn = subject, warn
        self._known = {trial.number: trial for trial in recorded}
        self._changed = dict[int, TrialRecord]()
        self._condition = threading.Condition()
        self._ending: Ending | None = None
        self._is_complete = False
        self._writer = _start()
        # A thread, since a message to a process that does not listen waits.
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._thread.start()

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        with self._condition:
            self._changed[trial.number] = self._known[trial.number] = trial

    def close(self, bundle: tuple[int, Path] | None, *, timeout_s: float) -> bool:
        """Have written what is left, with the best trial's model; return whether MLflow now holds all of it."""
        with self._condition:
            self._ending = Ending(bundle, timeout_s)
            self._condition.notify()
        self._thread.join(timeout_s + _GRACE_S)
        # Nothing is lost: what it said to be written is.
        self._writer.process.kill()
        self._thread.join()
        return self._is_complete

    def _run(self) -> None:
        """Keep a process that writes, as long as there is something to write."""
        for n_left in reversed(range(_MAX_STARTS)):
            try:
                self._is_complete = self._talk(self._writer.connection)
            except (EOFError, OSError):
                reason = self._writer.reap()
            else:
                self._writer.reap()
                return
            if self._ending is not None:
                return
            then = "it is started anew" if n_left else "the search goes on"
            self._warn(f"MLflow cannot be written: the process that does so has ended, {reason}; {then}")
            if n_left:
                self._writer = _start()

    def _talk(self, connection: Connection) -> bool:
        """Tell a new process all, pass on what changes and its warnings, until it answers whether all is written."""
        with self._condition:
            known, self._changed = list(self._known.values()), {}
        connection.send((self._subject, known))
        while (ending := self._pass_on(connection)) is None:
            while connection.poll():
                self._warn(connection.recv())
        connection.send(ending)
        while not isinstance(answer := connection.recv(), bool):
            self._warn(answer)
        return answer

    def _pass_on(self, connection: Connection) -> Ending | None:
        """Gather changes for a while and send them; return the ending once it has come."""
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=_BATCH_S)
            changed, self._changed = list(self._changed.values()), {}
            ending = self._ending
        if changed:
            connection.send(changed)
        return ending


def _start() -> ChildProcess:
    # A terminal's Ctrl-C is for the coordinator alone: what is left is written first.
    return start_child("mnist_hpo.tracking.writer", process_group=0)
