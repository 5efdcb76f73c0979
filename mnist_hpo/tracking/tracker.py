"""Keeps MLflow up to date during a search: a separate process writes it, and the search never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from mnist_hpo.executors.child_process import ChildProcess, start_child
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.tracking.messages import Answer, Ended, Ending, Progress, Subject

_BATCH_S = 0.5
"""Changes are gathered for so long, so that quick epochs share a message, and a request."""
_POLL_S = 0.25
_MAX_DEATHS = 5
"""Once the search has ended: a writer that dies so often without any progress is given up."""
_LONGEST_PAUSE_S = 60.0
"""While the search goes on: the longest pause before a writer that keeps dying is started again."""
_STALL_S = 120.0
"""A writer that neither reports nor computes for so long is killed and started again: it is stopped or hangs."""


class Tracker:
    """An observer of the scheduler that has what changed written to MLflow.

    Args:
        subject: what is projected.
        recorded: the trials that the storage holds already.
        warn: called when MLflow cannot be written, and when it can be again.

    """

    def __init__(self, subject: Subject, recorded: Iterable[TrialRecord], warn: Callable[[str], None]) -> None:
        self._subject, self._warn = subject, warn
        self._known = {trial.number: trial for trial in recorded}
        self._changed = dict[int, TrialRecord]()
        self._condition = threading.Condition()
        self._ending: Ending | None = None
        self._is_abandoned = False
        self._progress = self._furthest = Progress(0)
        self._n_messages = 0
        self._n_deaths = 0
        """In a row, without progress in between."""
        self._missing: str | None = "the thread that sends it has ended"
        """Until a writer says that nothing is."""
        self._writer = _start()
        # A thread, since to send to a process that does not read may block.
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._thread.start()

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        with self._condition:
            self._changed[trial.number] = self._known[trial.number] = trial

    def close(
        self,
        bundle: tuple[int, Path] | None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        show_progress: Callable[[int, int], None] = lambda _n_runs, _n_trials: None,
    ) -> str | None:
        """Have the rest written, with the best trial's model, however long that takes while there is progress.

        Args:
            bundle: the best trial's number and its model.
            should_stop: asked several times a second; True ends the wait, and leaves MLflow as it is then.
            show_progress: called as often, with the number of runs that are written and that of all trials.

        Returns:
            What MLflow does not hold, and why; None if it holds all of the study.

        """
        with self._condition:
            self._ending = Ending(bundle)
            self._n_deaths, self._furthest = 0, self._progress
            self._condition.notify()
        is_stalled = _StallDetector()
        while self._thread.is_alive():
            self._thread.join(_POLL_S)
            show_progress(self._progress.n_runs, len(self._known))
            if self._is_abandoned or should_stop():
                self._is_abandoned = True
                # Nothing is lost: what it reported to be written is.
                self._writer.process.kill()
            elif is_stalled(self._writer.process.pid, self._n_messages):
                self._writer.process.kill()
        return self._missing and f"{self._how_far()}: {self._missing}"

    def _how_far(self) -> str:
        n_runs, n_trials = self._progress.n_runs, len(self._known)
        if n_runs < n_trials:
            return f"{n_runs} of {n_trials} runs are written"
        return f"all {n_trials} runs are written, but not all that belongs to them"

    def _run(self) -> None:
        """Keep a process that writes, as long as there is something to write."""
        while True:
            try:
                self._missing = self._talk(self._writer.connection)
            except (EOFError, OSError):
                reason = self._writer.reap()
            else:
                self._writer.reap()
                return
            if self._is_abandoned:
                self._missing = "the rest was not waited for"
                return
            self._n_deaths += 1
            if self._ending is not None and self._n_deaths == _MAX_DEATHS:
                self._missing = f"the process that writes MLflow keeps dying, {reason}"
                return
            if self._n_deaths == 1:
                self._warn(
                    f"MLflow cannot be written: the process that does so has ended, {reason}; it is started again"
                )
            self._pause()
            self._writer = _start()

    def _pause(self) -> None:
        """Wait longer and longer before a new start, unless the search has ended."""
        pause_s = 0.0 if self._n_deaths == 1 else min(2.0**self._n_deaths, _LONGEST_PAUSE_S)
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=pause_s)

    def _talk(self, connection: Connection) -> str | None:
        """Send a new process everything, then what changes, and take its answers; return what is missing at the end."""
        with self._condition:
            known, self._changed = list(self._known.values()), {}
        connection.send((self._subject, known))
        while (ending := self._pass_on(connection)) is None:
            while connection.poll():
                self._take(connection.recv())
        connection.send(ending)
        while not isinstance(answer := connection.recv(), Ended):
            self._take(answer)
        return answer.missing

    def _take(self, answer: Answer) -> None:
        self._n_messages += 1
        if isinstance(answer, str):
            self._warn(answer)
        elif isinstance(answer, Progress):
            self._progress = answer
            # While the search goes on, any success counts.
            if self._ending is None or answer > self._furthest:
                self._furthest, self._n_deaths = answer, 0

    def _pass_on(self, connection: Connection) -> Ending | None:
        """Gather changes for a while and send them; return the ending once it has come."""
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=_BATCH_S)
            changed, self._changed = list(self._changed.values()), {}
            ending = self._ending
        if changed:
            connection.send(changed)
        return ending


class _StallDetector:
    """Whether a process has neither reported nor computed for long."""

    def __init__(self) -> None:
        self._signs: tuple[object, ...] = ()
        self._since_s = time.monotonic()

    def __call__(self, pid: int, n_messages: int) -> bool:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            return False
        signs = (pid, n_messages, used.user, used.system)
        if signs != self._signs:
            self._signs, self._since_s = signs, time.monotonic()
        return time.monotonic() - self._since_s > _STALL_S


def _start() -> ChildProcess:
    # A terminal's Ctrl-C is for the coordinator alone: what is left is written first.
    return start_child("mnist_hpo.tracking.writer", process_group=0)
