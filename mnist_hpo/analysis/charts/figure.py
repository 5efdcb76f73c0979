"""What the charts share: colours by meaning, axes, and how a trace names its trials.

A figure is plotly's JSON with two additions that whoever shows it resolves: a colour is written `var(--name)` and takes
the theme's value, and a trace's `trials` lists the trial of each point, whose text (`hover.hover_texts`) it shows on
hover. A theme can therefore change without a new figure, and a page holds the text of each trial only once.
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
HOVER = "%{customdata}<extra></extra>"
_N_DIGITS = 6
_MAX_TICKS = 7
_MAX_WHOLE_TICKS = 12
_JITTER = 0.16
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Chart:
    """One plotly figure with the size that it needs."""

    name: str
    """What it shows, for those who do not see it."""
    data: list[Json]
    layout: Json
    height_px: int
    min_width_px: int = 0
    """On a narrower screen it is moved sideways in a frame of its own."""
    caption: str = ""


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Numbers as short as a chart can show."""
    return [None if value is None else float(f"{value:.{_N_DIGITS}g}") for value in values]


def markers(state: TrialState) -> Json:
    """How a trial's point looks: the colour and the shape both tell its state."""
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
    """The best trial's star with its label."""
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
    """An axis for losses: logarithmic where they differ by more than a factor of 3."""
    axis: Json = {"title": {"text": title}, "tickformat": "~g"}
    if not values or min(values) <= 0 or max(values) / min(values) < 3:
        return axis
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.1 * (high - low)  # room for the best trial's label
    return axis | {"type": "log", "range": [low - margin, high + margin], **log_ticks(min(values), max(values))}


def log_ticks(low: float, high: float) -> Json:
    """Round values between two positive numbers, a few of them."""
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
    """Ticks at whole numbers alone, a few of them: plotly's own would be 1, 1.5, 2 over a short range."""
    step = 1
    for step in (digit * 10**power for power in range(12) for digit in (1, 2, 5)):
        if (high - low) / step <= _MAX_WHOLE_TICKS:
            break
    return {"tick0": 0, "dtick": step, "tickformat": "d"}


def parameter_axis(name: str, entry: Space) -> Json:
    """An axis over a parameter's whole range, as it is searched; choices stand at 0, 1, 2 …"""
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
    """A value on its `parameter_axis`; choices are spread a little by the trial's number, so that points part."""
    if not isinstance(entry, CategoricalSpace):
        return float(value)
    spread = 0.0 if number is None else _JITTER * (2 * (number * _GOLDEN % 1) - 1)
    return entry.choices.index(value) + spread


def by_state(view: StudyView) -> list[tuple[TrialState, list[TrialRecord]]]:
    """The trials of each state that there are, those that matter most last, on top of the others."""
    states: list[TrialState] = ["pruned", "failed", "paused", "running", "complete"]
    grouped: dict[TrialState, list[TrialRecord]] = {
        state: [trial for trial in view.trials if trial.state == state] for state in states
    }
    return [(state, trials) for state, trials in grouped.items() if trials]


def log_range(values: Iterable[float]) -> list[float]:
    """log10 of values, a loss of exactly 0 taken as next to nothing."""
    return np.log10(np.maximum(np.fromiter(values, np.float64), 1e-12)).tolist()


def trial_points(view: StudyView, trials: Sequence[TrialRecord], state: TrialState, name: str) -> Json:
    """Points of trials of one state over a parameter that all of them have; whoever draws them adds the `y`."""
    entry = view.study.space[name]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": view.state_name(state),
        "x": rounded(place(entry, trial.parameters[name], trial.number) for trial in trials),
        "marker": markers(state),
        "trials": [trial.number for trial in trials],
        "hovertemplate": HOVER,
    }
