"""The parallel-coordinates chart of hyperparameters and valid_loss."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.charts.figure import (
    BEST,
    GRID,
    HOVER,
    INK,
    PAPER,
    STATE_COLOURS,
    Chart,
    Json,
    by_state,
    log_range,
    rounded,
)
from mnist_hpo.analysis.charts.trials import FEW_CURVES, drawn_trials
from mnist_hpo.analysis.scale import fraction, fractions
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_loss
from mnist_hpo.analysis.words import brief
from mnist_hpo.spec.study import CategoricalSpace
from mnist_hpo.storage.records import TrialRecord

_DOT_PX = 5
"""Size of a point between two gaps."""


def parallel_coordinates(view: StudyView, names: Sequence[str]) -> tuple[Chart, int]:
    """Draw one line per trial through its hyperparameters and its valid_loss; return also the number of lines.

    A line has a gap at a hyperparameter that its trial does not have.
    """
    drawn = drawn_trials(view)
    losses = [loss for loss in map(kept_loss, view.trials) if loss is not None]
    bounds = (min(losses), max(losses))
    traces: list[Json] = []
    for state, trials in by_state(view):
        chosen = [trial for trial in trials if trial.number in drawn and not view.is_best(trial)]
        if chosen:
            lines = _lines(view, chosen, names, bounds)
            width, opacity = (1.4, 0.75) if state == "complete" else (1.0, 0.5)
            if len(drawn) >= FEW_CURVES:
                opacity *= 0.6
            traces.append(
                {
                    **lines,
                    "name": view.state_name(state),
                    "line": {"color": STATE_COLOURS[state], "width": width},
                    "opacity": opacity,
                }
            )
    if view.best is not None:
        lines = _lines(view, [view.best], names, bounds)
        traces.append({**lines, "name": "best", "line": {"color": BEST, "width": 3.5}})
    positions = list(range(len(names) + 1))
    rules = [
        {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "layer": "below", "line": {"color": GRID, "width": 1.5}}
        for at in positions
    ]
    layout = {
        "xaxis": {
            "tickvals": positions,
            "ticktext": [*names, "valid_loss"],
            "range": [-0.4, len(names) + 0.45],
            "showgrid": False,
            "zeroline": False,
            "side": "top",
        },
        "yaxis": {"visible": False, "range": [-0.06, 1.06]},
        "shapes": rules,
        "annotations": _axis_labels(view, names, bounds),
        "legend": {"y": -0.02, "yanchor": "top"},
        "margin": {"l": 16, "r": 16, "t": 40, "b": 40},
    }
    chart = Chart("Parallel coordinates", traces, layout, 460, min_width_px=110 * (len(names) + 1))
    return chart, len(drawn)


def _loss_fraction(loss: float, bounds: tuple[float, float]) -> float:
    low, high, at = log_range([*bounds, loss])
    return (at - low) / (high - low) if high > low else 0.5


def _lines(view: StudyView, trials: Sequence[TrialRecord], names: Sequence[str], bounds: tuple[float, float]) -> Json:
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        loss = kept_loss(trial)
        assert loss is not None
        heights = fractions(view.study, trial, names)
        x += [*range(len(names) + 1), None]
        y += [*rounded([*heights, _loss_fraction(loss, bounds)]), None]
        numbers += [*([trial.number] * (len(names) + 1)), None]
    lines: Json = {"type": "scatter", "mode": "lines", "x": x, "y": y, "trials": numbers, "hovertemplate": HOVER}
    isolated = _isolated_points(y)
    if any(isolated):
        lines |= {"mode": "lines+markers", "marker": {"size": [_DOT_PX * is_isolated for is_isolated in isolated]}}
    return lines


def _isolated_points(y: Sequence[float | None]) -> list[bool]:
    """Return which points have a gap on both sides, so that no line would show them."""
    padded = [None, *y, None]
    return [
        at is not None and before is None and after is None
        for before, at, after in zip(padded, y, padded[2:], strict=False)
    ]


def _axis_labels(view: StudyView, names: Sequence[str], bounds: tuple[float, float]) -> list[Json]:
    """Return labels for the ends of each axis, or for every choice."""
    labels: list[tuple[int, float, str]] = []
    for at, name in enumerate(names):
        entry = view.study.space[name]
        values = entry.choices if isinstance(entry, CategoricalSpace) else (entry.low, entry.high)
        labels += [(at, fraction(entry, value), brief(value)) for value in values]
    labels += [(len(names), _loss_fraction(loss, bounds), f"{loss:.5f}") for loss in bounds]
    return [
        {
            "x": at,
            "y": height,
            "text": text,
            "showarrow": False,
            "xanchor": "left",
            "xshift": 5,
            "borderpad": 1,
            "bgcolor": PAPER,
            "opacity": 0.9,
            "font": {"color": INK, "size": 11},
        }
        for at, height, text in labels
    ]
