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
from mnist_hpo.tracking.messages import Progress, Reply, SearchEnded, Subject, WriterDone

_BATCH_S = 0.5
"""How long changes are collected, so that short epochs share a message and a request."""
_POLL_S = 0.25
_MAX_DEATHS = 5
"""After the search: give up after the writer has died this many times in a row without progress."""
_LONGEST_PAUSE_S = 60.0
"""During the search: the longest pause before a writer that keeps dying is restarted."""
_STALL_S = 120.0
"""A writer that sends no message and uses no CPU for this long hangs or is stopped: it is killed and restarted."""


class Tracker:
    """An observer of the scheduler that sends changed trials to the process that writes MLflow.

    Args:
        subject: the study and the tracking store.
        recorded: the trials that are already in the storage.
        warn: called with a message when MLflow cannot be written, and when it can be again.

    """

    def __init__(self, subject: Subject, recorded: Iterable[TrialRecord], warn: Callable[[str], None]) -> None:
        self._subject, self._warn = subject, warn
        self._known = {trial.number: trial for trial in recorded}
        self._changed = dict[int, TrialRecord]()
        self._condition = threading.Condition()
        self._ending: SearchEnded | None = None
        self._is_abandoned = False
        self._progress = self._furthest = Progress(0)
        self._n_messages = 0
        self._n_deaths = 0
        """Deaths of the writer in a row, without progress in between."""
        self._missing: str | None = "the thread that sends the trials has ended"
        """What is missing in MLflow and why; None once the writer reports that nothing is."""
        self._writer = _start()
        # A thread, because sending to a process that does not read may block.
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
        """Wait until everything is written, with the best trial's model, as long as there is progress.

        Args:
            bundle: the best trial's number and its model.
            should_stop: called several times a second; True ends the wait and leaves MLflow as it is.
            show_progress: called as often, with the number of written runs and the number of trials.

        Returns:
            What is missing in MLflow and why; None if nothing is.

        """
        with self._condition:
            self._ending = SearchEnded(bundle)
            self._n_deaths, self._furthest = 0, self._progress
            self._condition.notify()
        is_stalled = _StallDetector()
        while self._thread.is_alive():
            self._thread.join(_POLL_S)
            show_progress(self._progress.n_runs, len(self._known))
            if self._is_abandoned or should_stop():
                self._is_abandoned = True
                # Safe: what the writer has reported as written is written.
                self._writer.process.kill()
            elif is_stalled(self._writer.process.pid, self._n_messages):
                self._writer.process.kill()
        return self._missing and f"{self._describe_progress()}: {self._missing}"

    def _describe_progress(self) -> str:
        n_runs, n_trials = self._progress.n_runs, len(self._known)
        if n_runs < n_trials:
            return f"{n_runs} of {n_trials} runs are written"
        return f"all {n_trials} runs are written, but not everything in them"

    def _run(self) -> None:
        """Serve the writer, and restart it when it dies, until everything is written or the wait is over."""
        while True:
            try:
                self._missing = self._serve(self._writer.connection)
            except (EOFError, OSError):
                reason = self._writer.reap()
            else:
                self._writer.reap()
                return
            if self._is_abandoned:
                self._missing = "the wait for the rest was ended"
                return
            self._n_deaths += 1
            if self._ending is not None and self._n_deaths == _MAX_DEATHS:
                self._missing = f"the process that writes MLflow keeps dying, {reason}"
                return
            if self._n_deaths == 1:
                self._warn(f"MLflow cannot be written: the process that writes it has ended, {reason}; restarting it")
            self._pause()
            self._writer = _start()

    def _pause(self) -> None:
        """Wait before a restart, longer each time. The end of the search ends the wait."""
        pause_s = 0.0 if self._n_deaths == 1 else min(2.0**self._n_deaths, _LONGEST_PAUSE_S)
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=pause_s)

    def _serve(self, connection: Connection) -> str | None:
        """Send a new writer all trials, then the changes, and handle its replies. Return what is missing at the end."""
        with self._condition:
            known, self._changed = list(self._known.values()), {}
        connection.send((self._subject, known))
        while (ending := self._send_changes(connection)) is None:
            while connection.poll():
                self._handle(connection.recv())
        connection.send(ending)
        while not isinstance(answer := connection.recv(), WriterDone):
            self._handle(answer)
        return answer.missing

    def _handle(self, answer: Reply) -> None:
        self._n_messages += 1
        if isinstance(answer, str):
            self._warn(answer)
        elif isinstance(answer, Progress):
            self._progress = answer
            # During the search, any success resets the count.
            if self._ending is None or answer > self._furthest:
                self._furthest, self._n_deaths = answer, 0

    def _send_changes(self, connection: Connection) -> SearchEnded | None:
        """Collect changes for a while and send them. Return the last message if the search has ended."""
        with self._condition:
            self._condition.wait_for(lambda: self._ending, timeout=_BATCH_S)
            changed, self._changed = list(self._changed.values()), {}
            ending = self._ending
        if changed:
            connection.send(changed)
        return ending


class _StallDetector:
    """Tells whether a process has sent no message and used no CPU for a long time."""

    def __init__(self) -> None:
        self._last_seen: tuple[object, ...] = ()
        self._since_s = time.monotonic()

    def __call__(self, pid: int, n_messages: int) -> bool:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            return False
        seen = (pid, n_messages, used.user, used.system)
        if seen != self._last_seen:
            self._last_seen, self._since_s = seen, time.monotonic()
        return time.monotonic() - self._since_s > _STALL_S


def _start() -> ChildProcess:
    # In its own process group: Ctrl-C goes to the coordinator alone, which lets the writer finish.
    return start_child("mnist_hpo.tracking.writer", process_group=0)
