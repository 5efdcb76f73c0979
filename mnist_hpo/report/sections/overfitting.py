"""The section on trainings that overfit."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from mnist_hpo.analysis.charts import overfitting as charts
from mnist_hpo.analysis.charts.figure import SERIES_COLOURS
from mnist_hpo.analysis.overfitting import PATIENCE_EPOCHS, Overfitting, overfitting_trials, spread
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.words import brief, duration
from mnist_hpo.report.blocks import Points, Section, Table

_MAX_SHOWN = 30


def overfitting(view: StudyView) -> list[Section]:
    """Show where trainings begin to overfit and what early stopping saves; nothing if none of them overfits."""
    found = overfitting_trials(view.study, view.trials)
    if not found:
        return []
    n_measured = sum(bool(trial.epochs) for trial in view.trials)
    lead = (
        f"{len(found):,} of {n_measured:,} trials overfit: they went on for {PATIENCE_EPOCHS} epochs or more after "
        "their lowest valid_loss, at the star, and ended with a higher valid_loss and a lower train_loss. Early "
        f"stopping ends a training after {PATIENCE_EPOCHS} epochs without a lower valid_loss (patience_epochs: "
        f"{PATIENCE_EPOCHS}). The trials are in the order of their number of parameters."
    )
    drawn, listed = spread(found, len(SERIES_COLOURS)), found if len(found) <= _MAX_SHOWN else spread(found, _MAX_SHOWN)
    if len(listed) < len(found):
        lead += f" {len(listed)} of them, evenly spaced, are shown."
    blocks = [
        Points(_sentences(found)),
        charts.losses(drawn, "valid_loss"),
        charts.losses(drawn, "train_loss"),
        charts.epochs(listed),
        _table(view, listed),
    ]
    return [Section("Overfitting", lead, blocks)]


def _sentences(found: Sequence[Overfitting]) -> list[str]:
    n_saved, n_epochs = sum(entry.n_saved for entry in found), sum(entry.n_epochs for entry in found)
    saved_s, seconds = sum(entry.saved_s for entry in found), sum(entry.seconds for entry in found)
    share = f" and {duration(saved_s)} of {duration(seconds)} ({saved_s / seconds:.0%})" if seconds else ""
    rise = median(entry.last_loss - entry.lowest_loss for entry in found)
    early = [entry.kept_loss - entry.lowest_loss for entry in found if entry.kept_loss > entry.lowest_loss]
    sentences = [
        f"Early stopping would have saved {n_saved:,} of {n_epochs:,} epochs{share}.",
        f"From the lowest to the last epoch, valid_loss rose by {rise:.4f} in the median.",
    ]
    if early:
        sentences.append(
            f"{len(early):,} of the {len(found):,} trainings would have stopped before their lowest valid_loss, and "
            f"missed {max(early):.4f} at most."
        )
    else:
        sentences.append("None would have stopped before its lowest valid_loss.")
    return sentences


def _table(view: StudyView, found: Sequence[Overfitting]) -> Table:
    names = list(view.study.space)
    rows: list[list[str]] = []
    for entry in found:
        best, last = entry.trial.epochs[entry.best_epoch], entry.trial.epochs[entry.n_epochs]
        saved = f"{entry.n_saved}" + (f" ({entry.saved_s / entry.seconds:.0%} of the time)" if entry.seconds else "")
        rows.append(
            [
                f"#{entry.trial.number}",
                f"{entry.n_parameters:,}",
                f"{entry.lowest_loss:.4f} at {entry.best_epoch}",
                f"{entry.last_loss:.4f} at {entry.n_epochs}",
                f"{best.train_loss:.4f} → {last.train_loss:.2g}",
                f"{entry.stop_epoch}",
                saved,
                f"{entry.last_loss - entry.kept_loss:.4f}",
                *(brief(entry.trial.parameters.get(name)) for name in names),
            ]
        )
    header = ["trial", "parameters", "lowest valid_loss", "last valid_loss", "train_loss", "stops at epoch"]
    return Table([*header, "epochs saved", "valid_loss saved", *names], rows)
