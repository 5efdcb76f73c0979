"""Shared parts of the charts: colours by meaning, axes, and references to trials.

A figure is plotly's JSON with two additions that the page resolves. A colour is written `var(--name)` and takes the
theme's value. A trace's `trials` lists the trial of each point, and the point shows that trial's text
(`hover.hover_texts`) on hover. The theme can therefore change without a new figure, and a page contains the text of
each trial only once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.words import brief
from mnist_hpo.spec.study import CategoricalSpace, ParameterValue, Space
from mnist_hpo.storage.records import TrialRecord, TrialState

Json = dict[str, Any]

INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--paper)"
BEST = "var(--best)"
STATE_COLOURS: dict[TrialState, str] = {
    "complete": "var(--complete)",
    "pruned": "var(--pruned)",
    "failed": "var(--failed)",
    "running": "var(--running)",
    "paused": "var(--paused)",
}
SERIES_COLOURS = ("#3b8fd6", "#e0803a", "#2fa57f", "#b56fc4", "#b8962a", "#8b95a3")
"""Distinguishable with colour blindness in this order (after Okabe and Ito), and legible on dark and light pages."""
HOVER = "%{customdata}<extra></extra>"
_N_DIGITS = 6
_MAX_TICKS = 7
_MAX_WHOLE_TICKS = 12
_JITTER = 0.16
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Chart:
    """One plotly figure with its size."""

    name: str
    """A description for screen readers."""
    data: list[Json]
    layout: Json
    height_px: int
    min_width_px: int = 0
    """On a narrower screen the chart scrolls horizontally."""
    caption: str = ""


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Round numbers to the precision that a chart can show."""
    return [None if value is None else float(f"{value:.{_N_DIGITS}g}") for value in values]


def markers(state: TrialState) -> Json:
    """Return the marker for trials in a state; the colour and the shape both encode the state."""
    symbols: dict[TrialState, str] = {
        "complete": "circle",
        "pruned": "circle-open",
        "failed": "x-thin",
        "running": "diamond",
        "paused": "diamond-open",
    }
    marker: Json = {"color": STATE_COLOURS[state], "symbol": symbols[state], "size": 7}
    if state in ("pruned", "failed"):
        marker["line"] = {"width": 1.5, "color": STATE_COLOURS[state]}
    return marker


def best_marker(trial: TrialRecord, x: Any, y: float, text: str, position: str = "bottom center") -> Json:
    """Draw the best trial as a star with a label."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "best",
        "x": [x],
        "y": [y],
        "text": [text],
        "textposition": position,
        "textfont": {"color": BEST, "size": 13},
        "cliponaxis": False,
        "marker": {"color": BEST, "symbol": "star", "size": 15, "line": {"color": PAPER, "width": 1.5}},
        "trials": [trial.number],
        "hovertemplate": HOVER,
    }


def loss_axis(values: Sequence[float], title: str = "valid_loss") -> Json:
    """Return an axis for losses, logarithmic if they differ by a factor of 3 or more."""
    axis: Json = {"title": {"text": title}, "tickformat": "~g"}
    if not values or min(values) <= 0 or max(values) / min(values) < 3:
        return axis
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.1 * (high - low)  # room for the best trial's label
    return axis | {"type": "log", "range": [low - margin, high + margin], **log_ticks(min(values), max(values))}


def log_ticks(low: float, high: float) -> Json:
    """Return a few ticks at round values between two positive numbers, for a log axis."""
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low * 0.95 <= tick <= high * 1.05]
        if len(ticks) <= _MAX_TICKS:
            break
    else:
        ticks = ticks[:: math.ceil(len(ticks) / _MAX_TICKS)]
    return {"tickvals": ticks, "ticktext": [f"{tick:.4g}" for tick in ticks]}


def whole_number_ticks(low: float, high: float) -> Json:
    """Return a few ticks at whole numbers only; over a short range plotly would use 1, 1.5, 2."""
    step = 1
    for step in (digit * 10**power for power in range(12) for digit in (1, 2, 5)):
        if (high - low) / step <= _MAX_WHOLE_TICKS:
            break
    return {"tick0": 0, "dtick": step, "tickformat": "d"}


def parameter_axis(name: str, entry: Space) -> Json:
    """Return an axis over a hyperparameter's whole range, log if it is searched so; choices are at 0, 1, 2, …"""
    axis: Json = {"title": {"text": name}, "zeroline": False}
    if isinstance(entry, CategoricalSpace):
        texts = [brief(choice) for choice in entry.choices]
        return axis | {
            "tickvals": list(range(len(texts))),
            "ticktext": texts,
            "range": [-0.5, len(texts) - 0.5],
        }
    if entry.low == entry.high:
        return axis
    if entry.log:
        low, high = math.log10(entry.low), math.log10(entry.high)
        margin = 0.04 * (high - low)
        return axis | {"type": "log", "range": [low - margin, high + margin], **log_ticks(entry.low, entry.high)}
    margin = 0.04 * (entry.high - entry.low)
    axis |= {"range": [entry.low - margin, entry.high + margin], "tickformat": "~g"}
    return axis | whole_number_ticks(entry.low, entry.high) if entry.type == "int" else axis


def place(entry: Space, value: ParameterValue, number: int | None = None) -> float:
    """Return a value's coordinate on its `parameter_axis`; the trial's number adds jitter to a choice."""
    if not isinstance(entry, CategoricalSpace):
        return float(value)
    spread = 0.0 if number is None else _JITTER * (2 * (number * _GOLDEN % 1) - 1)
    return entry.choices.index(value) + spread


def by_state(view: StudyView) -> list[tuple[TrialState, list[TrialRecord]]]:
    """Return the trials by state, without empty states; the most important state is last, to be drawn on top."""
    states: list[TrialState] = ["pruned", "failed", "paused", "running", "complete"]
    grouped: dict[TrialState, list[TrialRecord]] = {
        state: [trial for trial in view.trials if trial.state == state] for state in states
    }
    return [(state, trials) for state, trials in grouped.items() if trials]


def log_range(values: Iterable[float]) -> list[float]:
    """Return log10 of the values; a loss of exactly 0 is replaced by a tiny number."""
    return np.log10(np.maximum(np.fromiter(values, np.float64), 1e-12)).tolist()


def trial_points(
    view: StudyView, trials: Sequence[TrialRecord], state: TrialState, x: Sequence[Any], y: Sequence[Any]
) -> Json:
    """Return a trace with one point for each of the trials, which are all in one state."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": view.state_name(state),
        "x": list(x),
        "y": list(y),
        "marker": markers(state),
        "trials": [trial.number for trial in trials],
        "hovertemplate": HOVER,
    }
