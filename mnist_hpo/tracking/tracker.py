"""The projection in the background of a search: it never holds the search up, and catches up by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mnist_hpo.spec.errors import first_line
from mnist_hpo.storage.records import TrialRecord

if TYPE_CHECKING:
    from mnist_hpo.tracking.projection import Projection

_BATCH_S = 0.5
"""Changes are gathered for so long, so that quick epochs share a request."""
_RETRY_S = 5.0
_LAST_TRIES = 3
"""Once the search has ended, nobody waits for a server that is away for longer than this takes."""


class Tracker:
    """An observer of the scheduler that pushes what changed to MLflow from a thread of its own.

    Args:
        make: makes the projection; called in the thread, since importing MLflow takes a while.
        recorded: the trials that the storage holds already.
        warn: told once where MLflow cannot be written, and once where it can again.

    """

    def __init__(
        self, make: Callable[[], Projection], recorded: Iterable[TrialRecord], warn: Callable[[str], None]
    ) -> None:
        self._make, self._warn = make, warn
        self._changed = {trial.number: trial for trial in recorded}
        self._known = dict(self._changed)
        self._condition = threading.Condition()
        self._ending = False
        self._deadline = float("inf")
        self._n_last_tries = 0
        self._last: Callable[[Projection], None] | None = None
        self._complete = False
        self._has_warned = False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        with self._condition:
            self._changed[trial.number] = self._known[trial.number] = trial
            self._condition.notify()

    def close(self, last: Callable[[Projection], None], *, timeout_s: float) -> bool:
        """Write what is left, then do the last thing; return whether MLflow now holds all of it."""
        with self._condition:
            self._last, self._ending, self._deadline = last, True, time.monotonic() + timeout_s
            self._condition.notify()
        self._thread.join(timeout_s)
        return self._complete

    def _run(self) -> None:
        projection: Projection | None = None
        while True:
            try:
                if projection is None:
                    projection = self._open()
                if self._push_changes(projection):
                    return
            except Exception as error:  # (whatever ails MLflow must not end the search)
                self._say_once(f"MLflow cannot be written: {first_line(error)}; the search goes on")
                # What did get through is found again when it is opened anew.
                projection = None
                if self._gave_up():
                    return

    def _open(self) -> Projection:
        projection = self._make()
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
            if not self._ending:
                self._condition.wait_for(lambda: self._ending, timeout=_BATCH_S)
            changed, known, ending = dict(self._changed), list(self._known.values()), self._ending
        for number, trial in sorted(changed.items()):
            projection.push(trial)
            with self._condition:
                if self._changed.get(number) is trial:
                    del self._changed[number]
        if changed:
            projection.show_progress(known)
        if ending and not self._changed:
            if self._last is not None:
                self._last(projection)
            self._complete = True
            return True
        return False

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
