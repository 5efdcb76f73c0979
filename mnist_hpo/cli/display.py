"""Progress of a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mnist_hpo.analysis.anytime import best_after_each_epoch
from mnist_hpo.analysis.study_figures import count_ended
from mnist_hpo.cli.common import console
from mnist_hpo.cli.sparkline import sparkline
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, TrialState, best_of, count_states

_RATE_WINDOW_S = 60.0
_WAIT_LINES_S = 5.0
"""Minimum time between two lines about the progress of a wait."""


def make_display() -> TerminalDisplay | PlainDisplay:
    """Return a live display if standard error is a terminal, else a plain one."""
    output = console(to_stderr=True)
    return TerminalDisplay(output) if output.is_terminal else PlainDisplay(output)


class Tally:
    """Running totals of a study: its trials, its epoch rate and the best loss so far."""

    def __init__(self) -> None:
        self.trials: dict[int, TrialRecord] = {}
        self.n_trials, self.max_epochs, self.objective = 0, 0, "valid_loss"
        self.best_so_far: list[float] = []
        """The lowest valid_loss after each epoch, over all trials."""
        self._epochs_at: deque[float] = deque()

    def begin(self, study: Study, recorded: Sequence[TrialRecord]) -> None:
        """Start from the recorded trials."""
        self.trials = {trial.number: trial for trial in recorded}
        self.n_trials, self.max_epochs = study.budget.n_trials, study.budget.max_epochs
        self.objective = study.objectives[0].metric
        self.best_so_far = best_after_each_epoch(study, recorded)
        self._start, self._n_finished_before = time.monotonic(), self.n_finished

    def update(self, trial: TrialRecord) -> None:
        """Replace a trial by its newer version, and count its new epochs."""
        before = self.trials.get(trial.number)
        losses = list(trial.valid_loss.values())[len(before.epochs) if before else 0 :]
        for loss in losses:
            self._epochs_at.append(time.monotonic())
            self.best_so_far.append(min(loss, self.best_so_far[-1] if self.best_so_far else loss))
        self.trials[trial.number] = trial

    @property
    def n_finished(self) -> int:
        """Trials that are complete, pruned or failed."""
        return count_ended(list(self.trials.values()))

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial by the first objective."""
        return best_of(self.trials.values())

    def epochs_per_minute(self) -> float:
        """Return the rate over the last minute."""
        now = time.monotonic()
        while self._epochs_at and now - self._epochs_at[0] > _RATE_WINDOW_S:
            self._epochs_at.popleft()
        span_s = min(now - self._start, _RATE_WINDOW_S)
        return 60 * len(self._epochs_at) / max(span_s, 1.0)

    def left_s(self) -> float | None:
        """Estimate the seconds left from the trials that this run has ended; None before the second of them."""
        done = self.n_finished - self._n_finished_before
        if done < 2:
            return None
        return (time.monotonic() - self._start) / done * (self.n_trials - self.n_finished)


class PlainDisplay:
    """Prints one line per ended trial, for logs and pipes."""

    def __init__(self, output: Console) -> None:
        self._console, self._tally = output, Tally()
        self._wait, self._waited_at_s = "", float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        self._tally.begin(study, recorded)
        self.say(_headline(study, self._tally.n_finished, n_workers))

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(message, soft_wrap=True)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        self.say(f"warning: {message}")

    def show_wait(self, message: str) -> None:
        """See `runner.Display`."""
        now_s = time.monotonic()
        if message != self._wait and now_s - self._waited_at_s >= _WAIT_LINES_S:
            self._wait, self._waited_at_s = message, now_s
            self.say(message)

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._tally.update(trial)
        if trial.state in ("running", "paused"):
            return
        best = self._tally.best
        so_far = "" if best is None else f", best #{best.number} {best.value:.4f}"
        self.say(
            f"trial {trial.number} {trial.state}: {_outcome(trial)} "
            f"({self._tally.n_finished}/{self._tally.n_trials} done{so_far})"
        )


class LiveView:
    """A live view of a study on a terminal: progress, the best so far, and each running trial.

    It is redrawn several times a second. Use it as a context manager; `tally` may change at any time while it is open.
    """

    def __init__(self, output: Console) -> None:
        self.tally = Tally()
        self.footer = ""
        """Text at the end of the summary line."""
        self.wait = ""
        """What the run waits for after the last trial; replaces the table of running trials."""
        self._console, self._title = output, ""
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            console=output,
        )
        self._task = self._progress.add_task("", total=None)
        self._begun, self._width = False, output.width  # Before `Live`, which renders once when it is created.
        self._live = Live(
            console=output, get_renderable=self.render, refresh_per_second=4, transient=True, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, study: Study, recorded: Sequence[TrialRecord], title: str) -> None:
        """Start the view from the recorded trials, below the given title."""
        self.tally.begin(study, recorded)
        self._title = title
        self._progress.update(self._task, description=study.name, total=study.budget.n_trials)
        self._console.print(title)
        self._begun = True

    def render(self) -> RenderableType:
        """Return the current view."""
        width = self._console.width
        if width != self._width:
            # A terminal that has become narrower has wrapped the lines of the last view into an unknown number of
            # lines, so clear the screen.
            self._width = width
            self._console.control(Control.clear(), Control.home())
            self._console.out(self._title)
        if not self._begun:
            return Text("preparing …", style="dim")
        # A copy: another thread updates the study while this one draws.
        trials = list(self.tally.trials.values())
        self._progress.update(self._task, completed=count_ended(trials))
        running = sorted((trial for trial in trials if trial.state == "running"), key=lambda trial: trial.number)
        pace = [f"{self.tally.epochs_per_minute():.0f} epochs/min{self.footer}"]
        left_s = self.tally.left_s()
        if left_s is not None:
            pace.append(f"about {duration(left_s)} left")
        counts = count_states(trials)
        states: list[TrialState] = ["complete", "pruned", "failed", *(["paused"] if counts["paused"] else [])]
        ended = [f"{counts[state]} {state}" for state in states]
        summary = Text(" · ".join([", ".join(ended), *pace]), overflow="ellipsis")
        curve_width = min(max(self.tally.max_epochs, 5), max(width // 6, 10))
        table = _running_table(running, self.tally.max_epochs, curve_width)
        return Group(self._progress, summary, self._best_line(width), Text(self.wait) if self.wait else table)

    def _best_line(self, width: int) -> Text:
        best, curve = self.tally.best, self.tally.best_so_far
        named = "best" if best is None else f"best #{best.number}: {self.tally.objective} {best.value:.4f}"
        drawn = sparkline(curve, max(width - len(named) - 24, 10))
        text = f"{named}  ·  lowest valid_loss " if curve else "no epoch has ended yet"
        line = Text(text, no_wrap=True, overflow="crop")
        return line.append(drawn, style="cyan")


class TerminalDisplay:
    """Shows a run as a live view."""

    def __init__(self, output: Console) -> None:
        self._console, self._view = output, LiveView(output)

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view.__exit__(kind, error, traceback)

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        self._view.footer = f" on {n_workers} workers"
        self._view.begin(study, recorded, _headline(study, count_ended(recorded), n_workers))

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(message)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(Text(f"warning: {message}", style="yellow"))

    def show_wait(self, message: str) -> None:
        """See `runner.Display`."""
        self._view.wait = message

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._view.tally.update(trial)


def _running_table(running: Sequence[TrialRecord], max_epochs: int, curve_width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
    widths = {"trial": 5, "epoch": 2 * len(str(max_epochs)) + 1, "valid_loss": 10, "curve": curve_width}
    for column, width in widths.items():
        table.add_column(column, width=max(width, len(column)), no_wrap=True)
    # The hyperparameters get the remaining width, and are truncated on a narrow terminal.
    table.add_column("hyperparameters", ratio=1, no_wrap=True, overflow="ellipsis")
    # One scale for all curves, so that a better trial is drawn lower.
    all_losses = [loss for trial in running for loss in trial.valid_loss.values()]
    scale = {"low": min(all_losses, default=None), "high": max(all_losses, default=None)}
    for trial in running:
        losses = list(trial.valid_loss.values())
        last = f"{losses[-1]:.4f}" if losses else "…"
        curve = Text(sparkline(losses, curve_width, **scale), style="cyan")
        table.add_row(f"#{trial.number}", f"{len(losses)}/{max_epochs}", last, curve, describe(trial.parameters))
    return table


def describe(parameters: ParameterSet) -> str:
    """Return hyperparameters in one short line."""
    return " ".join(f"{name}={_brief(value)}" for name, value in parameters.items())


def _brief(value: ParameterValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _outcome(trial: TrialRecord) -> str:
    if trial.state == "failed":
        return trial.reason or "unknown reason"
    losses = trial.valid_loss
    best = trial.kept_epoch
    return "no epochs" if best is None else f"valid_loss {losses[best]:.4f} at epoch {best} of {len(losses)}"


def _headline(study: Study, n_finished: int, n_workers: int) -> str:
    done = f", {n_finished} of them already recorded" if n_finished else ""
    return f"study {study.name}: {study.budget.n_trials} trials{done}; {n_workers} workers"


def duration(seconds: float) -> str:
    """Return a duration in words, such as `2 min 05 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
