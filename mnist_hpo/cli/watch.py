"""`mnist-hpo status --watch`: show a study while another process runs it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from mnist_hpo.analysis.study_figures import count_ended
from mnist_hpo.cli.display import LiveView, Tally, duration

if TYPE_CHECKING:
    from mnist_hpo.spec.study import Study
    from mnist_hpo.storage.records import TrialRecord
    from mnist_hpo.storage.study_storage import StudyStorage

_REFRESH_S = 1.0
_LARGEST_SHARE = 0.2
"""The largest fraction of time spent reading the storage: a large study is read less often."""


def watch(record: StudyStorage, study: Study, output: Console) -> list[TrialRecord]:
    """Show a study until every trial of its budget has ended, and return its trials.

    The trials are read from the storage alone, so any process on any machine may run the study.

    Raises:
        KeyboardInterrupt: the process received SIGINT.

    """
    # Install a handler explicitly, as `run` does: a shell starts background jobs with SIGINT ignored. The handler sets
    # a flag, because an exception raised in a handler can be lost, for example if the signal arrives in a destructor.
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda _number, _frame: interrupted.set())
    trials = record.trials()
    if output.is_terminal:
        with LiveView(output) as view:
            view.begin(study, trials, f"study {study.name}: watching {record.url} (Ctrl-C only stops watching)")
            while not _is_over(study, trials):
                trials = _read_again(record, interrupted)
                _update(view.tally, trials)
                view.footer = _since_last_epoch(trials)
        return trials
    shown = ""
    while True:
        line = _line(study, trials)
        if line != shown:
            output.print(line)
            shown = line
        if _is_over(study, trials):
            return trials
        trials = _read_again(record, interrupted)


def _read_again(record: StudyStorage, interrupted: threading.Event) -> list[TrialRecord]:
    start = time.monotonic()
    trials = record.trials()
    took_s = time.monotonic() - start
    if interrupted.wait(max(_REFRESH_S - took_s, took_s / _LARGEST_SHARE)):
        raise KeyboardInterrupt
    return trials


def _is_over(study: Study, trials: Sequence[TrialRecord]) -> bool:
    return count_ended(trials) >= study.budget.n_trials


def _update(tally: Tally, trials: Sequence[TrialRecord]) -> None:
    for trial in trials:
        if trial != tally.trials.get(trial.number):
            tally.update(trial)


def _since_last_epoch(trials: Sequence[TrialRecord]) -> str:
    finished_s = [result.finished_unix_s for trial in trials for result in trial.epochs.values()]
    return f", the last one {duration(time.time() - max(finished_s))} ago" if finished_s else ""


def _line(study: Study, trials: Sequence[TrialRecord]) -> str:
    tally = Tally()
    tally.begin(study, trials)
    best = tally.best
    so_far = "" if best is None else f", best #{best.number} {best.value:.4f}"
    return f"{study.name}: {tally.n_finished}/{tally.n_trials} trials, {len(tally.best_so_far)} epochs{so_far}"
