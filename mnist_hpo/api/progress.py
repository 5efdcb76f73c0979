"""Progress display: one line on standard error, in a terminal, a notebook or a log."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Generator, Sequence

from mnist_hpo.analysis.study_figures import count_ended
from mnist_hpo.runner import Display
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, best_of

_logger = logging.getLogger("mnist_hpo")
# As usual for libraries, messages go only to the caller's handlers.
_logger.addHandler(logging.NullHandler())


@contextlib.contextmanager
def make_display(progress: bool | Callable[[TrialRecord], None]) -> Generator[Display]:
    """Yield the display for the argument `progress` of `run_study`."""
    if not isinstance(progress, bool):
        yield LoggingDisplay(progress)
    elif progress:
        with progress_line() as line:
            yield LineDisplay(line)
    else:
        yield LoggingDisplay()


class ProgressLine:
    """A line that is overwritten in place; where that is impossible, only lasting messages are written.

    The carriage return works in terminals and in Jupyter's output, and needs no package.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        # Jupyter's stream is not a TTY, but supports the carriage return.
        self._in_place = "ipykernel" in sys.modules or self._stream.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Show the progress; ignored if the line cannot be overwritten."""
        if self._in_place and text != self._shown:
            # A wrapped line could not be overwritten.
            text = text[: shutil.get_terminal_size().columns - 1]
            self._write(f"\r{text:<{len(self._shown)}}")
            self._shown = text

    def say(self, text: str) -> None:
        """Write a lasting line."""
        self._write(f"\r{text:<{len(self._shown)}}\n" if self._shown else f"{text}\n")
        self._shown = ""

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._write(f"\r{'':<{len(self._shown)}}\r")
            self._shown = ""

    def _write(self, text: str) -> None:
        # A failure to show progress must not stop the work.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


@contextlib.contextmanager
def progress_line() -> Generator[ProgressLine]:
    """Yield a progress line that is removed at the end."""
    line = ProgressLine()
    try:
        yield line
    finally:
        line.clear()


class LineDisplay:
    """A `Display` on one line."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._study, self._trials = "", dict[int, TrialRecord]()
        self._n_trials = self._n_ended = 0

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        self._study, self._n_trials = study.name, study.budget.n_trials
        self._trials = {trial.number: trial for trial in recorded}
        self._n_ended = count_ended(recorded)
        self._line.say(f"{self._so_far()}; {n_workers} workers")

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        self._line.say(message)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        self._line.say(f"warning: {message}")

    def show_wait(self, message: str) -> None:
        """See `runner.Display`."""
        self._line.show(message)

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._trials[trial.number] = trial
        n_ended = count_ended(list(self._trials.values()))
        has_ended, self._n_ended = n_ended > self._n_ended, n_ended
        self._line.show(self._so_far())
        if has_ended and n_ended == self._n_trials:
            self._line.say(self._so_far())

    def _so_far(self) -> str:
        n_epochs = sum(len(trial.epochs) for trial in self._trials.values())
        best = best_of(self._trials.values())
        best_text = "" if best is None else f", best #{best.number} {best.value:.4f}"
        return f"{self._study}: {self._n_ended} of {self._n_trials} trials, {n_epochs} epochs{best_text}"


class LoggingDisplay:
    """A `Display` that only writes to the logger `mnist_hpo`.

    Args:
        on_trial: a callback with each changed trial.

    """

    def __init__(self, on_trial: Callable[[TrialRecord], None] = lambda _trial: None) -> None:
        self._on_trial = on_trial

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        _logger.info("study %s: %d trials recorded, %d workers", study.name, len(recorded), n_workers)

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        _logger.info("%s", message)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        _logger.warning("%s", message)

    def show_wait(self, message: str) -> None:
        """See `runner.Display`."""

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._on_trial(trial)
