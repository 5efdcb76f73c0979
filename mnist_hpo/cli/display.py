"""How a run looks while it runs: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mnist_hpo.cli.common import console
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, best_of, count_states

_RATE_WINDOW_S = 60.0


def make_display() -> TerminalDisplay | PlainDisplay:
    """The display that suits where standard error goes."""
    output = console(to_stderr=True)
    return TerminalDisplay(output) if output.is_terminal else PlainDisplay(output)


class _Tally:
    """What a run has come to so far."""

    def __init__(self) -> None:
        self.trials: dict[int, TrialRecord] = {}
        self.n_trials, self.max_epochs, self.n_workers = 0, 0, 0
        self._epochs_at: deque[float] = deque()

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        self.trials = {trial.number: trial for trial in recorded}
        self.n_trials, self.max_epochs = study.budget.n_trials, study.budget.max_epochs
        self.n_workers = n_workers
        self._start, self._n_finished_before = time.monotonic(), self.n_finished

    def update(self, trial: TrialRecord) -> None:
        before = self.trials.get(trial.number)
        if before is not None and len(trial.epochs) > len(before.epochs):
            self._epochs_at.append(time.monotonic())
        self.trials[trial.number] = trial

    @property
    def n_finished(self) -> int:
        return sum(trial.state != "running" for trial in self.trials.values())

    @property
    def best(self) -> TrialRecord | None:
        return best_of(self.trials.values())

    def epochs_per_minute(self) -> float:
        now = time.monotonic()
        while self._epochs_at and now - self._epochs_at[0] > _RATE_WINDOW_S:
            self._epochs_at.popleft()
        span_s = min(now - self._start, _RATE_WINDOW_S)
        return 60 * len(self._epochs_at) / max(span_s, 1.0)

    def left_s(self) -> float | None:
        """Seconds left at the pace of this run's finished trials, once there are some."""
        done = self.n_finished - self._n_finished_before
        if done < 2:
            return None
        return (time.monotonic() - self._start) / done * (self.n_trials - self.n_finished)


class PlainDisplay:
    """A line for each trial that ends: for logs and pipes."""

    def __init__(self, output: Console) -> None:
        self._console, self._tally = output, _Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        self._tally.begin(study, recorded, n_workers)
        self.say(_headline(study, self._tally))

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(message, soft_wrap=True, markup=False)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        self.say(f"warning: {message}")

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._tally.update(trial)
        if trial.state == "running":
            return
        best = self._tally.best
        so_far = "" if best is None else f", best #{best.number} {best.value:.4f}"
        self.say(
            f"trial {trial.number} {trial.state}: {_outcome(trial)} "
            f"({self._tally.n_finished}/{self._tally.n_trials} done{so_far})"
        )


class TerminalDisplay:
    """A live picture: progress, the best so far, and what each slot is at."""

    def __init__(self, output: Console) -> None:
        self._console, self._tally = output, _Tally()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            console=output,
        )
        self._task = self._progress.add_task("", total=None)
        self._begun = False  # Before `Live`, which draws a first picture when it is made.
        self._live = Live(
            console=output, get_renderable=self._render, refresh_per_second=4, transient=True, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, study: Study, recorded: Sequence[TrialRecord], n_workers: int) -> None:
        """See `runner.Display`."""
        self._tally.begin(study, recorded, n_workers)
        self._progress.update(
            self._task, description=study.name, total=study.budget.n_trials, completed=self._tally.n_finished
        )
        self.say(_headline(study, self._tally))
        self._begun = True

    def say(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """See `runner.Display`."""
        self._console.print(Text(f"warning: {message}", style="yellow"))

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        self._tally.update(trial)
        self._progress.update(self._task, completed=self._tally.n_finished)

    def _render(self) -> RenderableType:
        if not self._begun:
            return Text("preparing …", style="dim")
        # A copy: the run goes on in another thread than the drawing.
        running = sorted(
            (trial for trial in list(self._tally.trials.values()) if trial.state == "running"),
            key=lambda trial: trial.number,
        )
        return Group(self._progress, self._summary(), _running_table(running, self._tally.max_epochs))

    def _summary(self) -> Text:
        counts = count_states(list(self._tally.trials.values()))
        parts = [f"{counts['complete']} complete, {counts['pruned']} pruned, {counts['failed']} failed"]
        best = self._tally.best
        if best is not None:
            parts.append(f"best #{best.number}: valid_loss {best.value:.4f}")
        parts.append(f"{self._tally.epochs_per_minute():.0f} epochs/min on {self._tally.n_workers} workers")
        left_s = self._tally.left_s()
        if left_s is not None:
            parts.append(f"about {_duration(left_s)} left")
        return Text("  ·  ".join(parts))


def _running_table(running: Sequence[TrialRecord], max_epochs: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("trial", "epoch", "valid_loss", "parameters"):
        # The parameters give way where the terminal is narrow.
        width = None if column == "parameters" else len(column)
        table.add_column(column, min_width=width, no_wrap=True, overflow="ellipsis")
    for trial in running:
        losses = list(trial.valid_loss.values())
        last = f"{losses[-1]:.4f}" if losses else "…"
        table.add_row(f"#{trial.number}", f"{len(losses)}/{max_epochs}", last, describe(trial.parameters))
    return table


def describe(parameters: object) -> str:
    """A parameter set in one short line."""
    assert hasattr(parameters, "items")
    return " ".join(f"{name}={_brief(value)}" for name, value in parameters.items())  # pyright: ignore


def _brief(value: ParameterValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _outcome(trial: TrialRecord) -> str:
    if trial.state == "failed":
        return trial.reason or "no reason known"
    losses = trial.valid_loss
    best = trial.best_epoch
    return "no epoch" if best is None else f"valid_loss {losses[best]:.4f} at epoch {best} of {len(losses)}"


def _headline(study: Study, tally: _Tally) -> str:
    done = f", {tally.n_finished} of them recorded already" if tally.n_finished else ""
    return f"study {study.name}: {study.budget.n_trials} trials{done}; {tally.n_workers} workers"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
