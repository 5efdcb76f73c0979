"""Charts over parameters: importances, correlations, slices, the contour and the parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.report.charts.figure import (
    BEST,
    GRID,
    HOVER,
    INK,
    PAPER,
    STATE_COLOURS,
    Chart,
    Json,
    best_marker,
    by_state,
    log_range,
    loss_axis,
    markers,
    parameter_axis,
    place,
    rounded,
)
from mnist_hpo.report.charts.trials import FEW_CURVES, drawn_trials
from mnist_hpo.report.importance import Correlation, Importance
from mnist_hpo.report.scale import fraction
from mnist_hpo.report.view import StudyView, brief, lowest_loss, signed
from mnist_hpo.spec.study import CategoricalSpace, Space
from mnist_hpo.storage.records import TrialRecord, TrialState

SIGNIFICANT_P = 0.05
_N_CELLS = 40
_N_TICKS = 5
"""Of the contour's colour bar."""
_BANDWIDTH = 0.5
"""Of the contour's kernel, over n_trials^(1/6) (Scott's rule for two dimensions), as a part of the range."""
_MIN_WEIGHT = 0.05
"""A place that no trial is near is left blank: less weight than a single trial has at two bandwidths' distance."""


def importances(importance: Importance) -> Chart:
    """Both importances of each parameter, the most important on top."""
    names = list(reversed(importance.ranking()))
    # The first trace is drawn at the bottom of each pair.
    kinds = [
        ("PED-ANOVA", importance.ped_anova, "var(--second)"),
        ("fANOVA", importance.fanova, "var(--first)"),
    ]
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "y": names,
            "x": rounded(shares.get(name, 0.0) for name in names),
            "text": [f"{100 * shares.get(name, 0.0):.0f} %" for name in names],
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:.1%}} by {title}<extra></extra>",
        }
        for title, shares, colour in kinds
        if shares
    ]
    longest = max(max(shares.values()) for _, shares, _ in kinds if shares)
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        # Room for the label of the longest bar.
        "xaxis": {"title": {"text": "share"}, "tickformat": ".0%", "range": [0, 1.2 * longest]},
        "yaxis": {"automargin": True, "type": "category"},
        "legend": {"traceorder": "reversed"},
    }
    return Chart("Parameter importances", traces, layout, 110 + 48 * len(names))


def correlations(found: dict[str, Correlation]) -> Chart:
    """Spearman's rank correlation of each parameter with valid_loss; those that chance explains are pale."""
    names = sorted(found, key=lambda name: abs(found[name].rho))
    # The figures stand with the names: at the bars' ends they would not fit on a phone.
    labels = [f"{name}<br>{signed(found[name].rho)} (p {found[name].p_value:.2g})" for name in names]
    bars: Json = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": rounded(found[name].rho for name in names),
        "marker": {
            "color": "var(--first)",
            "opacity": [1.0 if found[name].p_value < SIGNIFICANT_P else 0.35 for name in names],
        },
        "hovertemplate": "%{y}: ρ = %{x:.2f}<extra></extra>",
    }
    layout = {
        "xaxis": {
            "title": {"text": "Spearman's ρ"},
            "range": [-1.05, 1.05],
            "tickvals": [-1, -0.5, 0, 0.5, 1],
            "zerolinecolor": INK,
        },
        "yaxis": {"automargin": True, "type": "category", "tickvals": names, "ticktext": labels},
        "showlegend": False,
    }
    return Chart("Rank correlations with valid_loss", [bars], layout, 80 + 42 * len(names))


def slice_of(view: StudyView, name: str) -> Chart:
    """Each trial's lowest valid_loss over one parameter."""
    entry = view.study.space[name]
    traces: list[Json] = []
    for state, trials in by_state(view):
        shown = [trial for trial in trials if trial.epochs and not view.is_best(trial)]
        traces.append(_points(view, shown, state, entry, name) | {"y": rounded(lowest_loss(trial) for trial in shown)})
    if view.best is not None and view.best.value is not None:
        traces.append(best_marker(view.best, place(entry, view.best.parameters[name]), view.best.value, ""))
    losses = [loss for loss in map(lowest_loss, view.trials) if loss is not None]
    layout = {"xaxis": parameter_axis(name, entry), "yaxis": loss_axis(losses)}
    return Chart(f"valid_loss over {name}", traces, layout, 380)


def contour(view: StudyView, x_name: str, y_name: str) -> Chart:
    """valid_loss over two parameters, smoothed over the complete trials; the points are trials, of many a part."""
    drawn = drawn_trials(view)
    x_entry, y_entry = view.study.space[x_name], view.study.space[y_name]
    traces: list[Json] = [_surface(view, x_name, y_name)]
    for state, trials in by_state(view):
        shown = [trial for trial in trials if trial.number in drawn and not view.is_best(trial)]
        points = _points(view, shown, state, x_entry, x_name)
        points["y"] = rounded(place(y_entry, trial.parameters[y_name], trial.number + 1) for trial in shown)
        # Paper around each point: it must be seen on any colour of the surface.
        points["marker"] = {**markers(state), "size": 6}
        if state == "complete":
            points["marker"]["line"] = {"width": 1, "color": "#ffffff"}
        traces.append(points)
    if view.best is not None:
        x, y = (place(entry, view.best.parameters[name]) for entry, name in ((x_entry, x_name), (y_entry, y_name)))
        traces.append(best_marker(view.best, x, y, ""))
    layout = {"xaxis": parameter_axis(x_name, x_entry), "yaxis": parameter_axis(y_name, y_entry)}
    return Chart(f"valid_loss over {x_name} and {y_name}", traces, layout, 460)


def parallel_coordinates(view: StudyView, names: Sequence[str]) -> tuple[Chart, int]:
    """A line a trial through its parameters and its valid_loss, and how many trials are drawn."""
    drawn = drawn_trials(view)
    losses = [loss for loss in map(lowest_loss, view.trials) if loss is not None]
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


def _points(view: StudyView, trials: Sequence[TrialRecord], state: TrialState, entry: Space, name: str) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": view.state_name(state),
        "x": rounded(place(entry, trial.parameters[name], trial.number) for trial in trials),
        "marker": markers(state),
        "trials": [trial.number for trial in trials],
        "hovertemplate": HOVER,
    }


def _surface(view: StudyView, x_name: str, y_name: str) -> Json:
    x_entry, y_entry = view.study.space[x_name], view.study.space[y_name]
    (x_places, x_cells), (y_places, y_cells) = _cells(x_entry), _cells(y_entry)
    points = np.array(
        [[fraction(x_entry, t.parameters[x_name]), fraction(y_entry, t.parameters[y_name])] for t in view.complete]
    )
    log_losses = np.array(log_range(trial.value for trial in view.complete if trial.value is not None))
    z = _smoothed(points, log_losses, x_cells, y_cells)
    low, high = float(np.nanmin(z)), float(np.nanmax(z))
    ticks = np.linspace(low, high, _N_TICKS).tolist()
    return {
        "type": "contour" if len(x_cells) == len(y_cells) == _N_CELLS else "heatmap",
        "x": rounded(x_places),
        "y": rounded(y_places),
        "z": [rounded(None if np.isnan(cell) else cell for cell in row) for row in z.tolist()],
        "zmin": low,
        "zmax": high,
        "colorscale": "Cividis",
        "ncontours": 16,
        "line": {"width": 0.5},
        "hoverinfo": "skip",
        "colorbar": {
            "title": {"text": "valid_loss", "side": "right"},
            # The surface often spans less than two round values.
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.4g}" for tick in ticks],
            "thickness": 12,
            "outlinewidth": 0,
        },
    }


def _cells(entry: Space) -> tuple[list[float], NDArray[np.float64]]:
    """The middles of the surface's cells along one parameter: on its axis, and as fractions of its range."""
    if isinstance(entry, CategoricalSpace):
        n_choices = len(entry.choices)
        return list(map(float, range(n_choices))), np.arange(n_choices) / max(n_choices - 1, 1)
    fractions = np.linspace(0, 1, _N_CELLS)
    low, high = float(entry.low), float(entry.high)
    places = low * (high / low) ** fractions if entry.log else low + fractions * (high - low)
    return places.tolist(), fractions


def _smoothed(
    points: NDArray[np.float64], values: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The kernel-weighted mean of values f64[n] at points f64[n, 2]: f64[y, x], NaN where no point is near."""
    bandwidth = _BANDWIDTH * len(points) ** (-1 / 6)
    x_weights = np.exp(-0.5 * ((x[:, None] - points[None, :, 0]) / bandwidth) ** 2)
    y_weights = np.exp(-0.5 * ((y[:, None] - points[None, :, 1]) / bandwidth) ** 2)
    weights = y_weights @ x_weights.T
    sums = (y_weights * values) @ x_weights.T
    return np.where(weights > _MIN_WEIGHT, sums / np.maximum(weights, _MIN_WEIGHT), np.nan)


def _loss_fraction(loss: float, bounds: tuple[float, float]) -> float:
    low, high, at = log_range([*bounds, loss])
    return (at - low) / (high - low) if high > low else 0.5


def _lines(view: StudyView, trials: Sequence[TrialRecord], names: Sequence[str], bounds: tuple[float, float]) -> Json:
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        loss = lowest_loss(trial)
        assert loss is not None
        heights = [fraction(view.study.space[name], trial.parameters[name]) for name in names]
        x += [*range(len(names) + 1), None]
        y += [*rounded([*heights, _loss_fraction(loss, bounds)]), None]
        numbers += [*([trial.number] * (len(names) + 1)), None]
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "trials": numbers, "hovertemplate": HOVER}


def _axis_labels(view: StudyView, names: Sequence[str], bounds: tuple[float, float]) -> list[Json]:
    """The values at the ends of each axis, and every choice."""
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
