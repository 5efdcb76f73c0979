"""Charts of trainings that overfit: their losses by epoch, and the epochs that early stopping would have saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mnist_hpo.analysis.charts.figure import (
    BEST,
    HOVER,
    PAPER,
    SERIES_COLOURS,
    Chart,
    Json,
    loss_axis,
    rounded,
    whole_number_ticks,
)
from mnist_hpo.analysis.overfitting import PATIENCE_EPOCHS, Overfitting
from mnist_hpo.analysis.words import brief
from mnist_hpo.storage.records import TrialRecord

_ROW_PX = 24


def losses(found: Sequence[Overfitting], which: Literal["valid_loss", "train_loss"]) -> Chart:
    """Draw a loss of at most as many trainings as there are colours, with a star at each one's lowest valid_loss."""
    traces: list[Json] = []
    curves = [_curve(entry.trial, which) for entry in found]
    for entry, curve, colour in zip(found, curves, SERIES_COLOURS, strict=False):
        name = _name(entry.trial)
        line = {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": list(range(1, len(curve) + 1)),
            "y": rounded(curve),
            "line": {"color": colour, "width": 2},
            "legendgroup": name,
            "hovertemplate": f"#{entry.trial.number}, epoch %{{x}}: %{{y:.5f}}<extra></extra>",
        }
        star = {
            "type": "scatter",
            "mode": "markers",
            "name": f"lowest valid_loss of {name}",
            "x": [entry.best_epoch],
            "y": rounded([curve[entry.best_epoch - 1]]),
            "marker": {"color": colour, "symbol": "star", "size": 14, "line": {"color": PAPER, "width": 1.5}},
            "legendgroup": name,
            "showlegend": False,
            "trials": [entry.trial.number],
            "hovertemplate": HOVER,
        }
        traces += [line, star]
    longest = max(entry.n_epochs for entry in found)
    epochs = {"title": {"text": "epoch"}, "zeroline": False, "range": [0.5, longest + 0.5]}
    layout = {
        "xaxis": {**epochs, **whole_number_ticks(1, longest)},
        "yaxis": loss_axis([loss for curve in curves for loss in curve], which),
    }
    return Chart(f"{which} by epoch, with a star at the lowest valid_loss", traces, layout, 360, caption=which)


def epochs(found: Sequence[Overfitting]) -> Chart:
    """Draw each training's epochs as a bar, those that early stopping saves set apart, with a star as in `losses`."""
    # The first row of a bar chart is at the bottom.
    drawn = list(reversed(found))
    parts = (
        ("until the loss that early stopping keeps", "var(--first)", [entry.kept_epoch for entry in drawn]),
        (f"patience of {PATIENCE_EPOCHS} epochs", "var(--second)", [PATIENCE_EPOCHS] * len(drawn)),
        ("saved by early stopping", "var(--idle)", [entry.n_saved for entry in drawn]),
    )
    labels = [_name(entry.trial) for entry in drawn]
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": labels,
            "x": lengths,
            "text": [str(length) if length else "" for length in lengths],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "marker": {"color": colour},
            "trials": [entry.trial.number for entry in drawn],
            "hovertemplate": HOVER,
        }
        for name, colour, lengths in parts
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "lowest valid_loss",
            "y": labels,
            "x": [entry.best_epoch for entry in drawn],
            "marker": {"color": BEST, "symbol": "star", "size": 12, "line": {"color": PAPER, "width": 1}},
            "trials": [entry.trial.number for entry in drawn],
            "hovertemplate": HOVER,
        }
    )
    longest = max(entry.n_epochs for entry in found)
    layout = {
        "barmode": "stack",
        "bargap": 0.2,
        "legend": {"traceorder": "normal"},
        "xaxis": {"title": {"text": "epochs"}, "zeroline": False, **whole_number_ticks(0, longest)},
        "yaxis": {"automargin": True, "type": "category", "categoryorder": "array", "categoryarray": labels},
    }
    name = "Epochs until the lowest valid_loss, and those that early stopping saves"
    return Chart(name, traces, layout, 110 + _ROW_PX * len(found), caption="Epochs")


def _curve(trial: TrialRecord, which: Literal["valid_loss", "train_loss"]) -> list[float]:
    if which == "valid_loss":
        return list(trial.valid_loss.values())
    return [result.train_loss for _, result in sorted(trial.epochs.items())]


def _name(trial: TrialRecord) -> str:
    """Return the trial's number, with its first two hyperparameters if it has no more than two."""
    parameters = trial.parameters if len(trial.parameters) <= 2 else {}
    values = ", ".join(f"{name} {brief(value)}" for name, value in parameters.items())
    return f"#{trial.number}: {values}" if values else f"#{trial.number}"
