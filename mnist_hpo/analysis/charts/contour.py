"""The chart of valid_loss over two hyperparameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.analysis.charts.figure import (
    Chart,
    Json,
    best_marker,
    by_state,
    log_range,
    markers,
    parameter_axis,
    place,
    rounded,
    trial_points,
)
from mnist_hpo.analysis.charts.trials import drawn_trials
from mnist_hpo.analysis.scale import fraction
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import objective_value, with_parameters
from mnist_hpo.spec.study import CategoricalSpace, Space

_N_CELLS = 40
_N_TICKS = 5
"""Number of ticks of the colour bar."""
_BANDWIDTH = 0.5
"""The smoothing kernel's bandwidth as a fraction of the range, before Scott's factor n_trials^(-1/6) for two
dimensions."""
_MIN_WEIGHT = 0.05
"""Cells with less total weight are left blank: less than that of a single trial at a distance of two bandwidths."""


def contour(view: StudyView, x_name: str, y_name: str) -> Chart:
    """Draw valid_loss over two hyperparameters, smoothed over the complete trials, with `drawn_trials` as points.

    Trials that do not have both hyperparameters are left out; at least one complete trial must have them.
    """
    drawn = drawn_trials(view)
    x_entry, y_entry = view.study.space[x_name], view.study.space[y_name]
    traces: list[Json] = [_surface(view, x_name, y_name)]
    for state, trials in by_state(view):
        having = with_parameters(trials, x_name, y_name)
        shown = [trial for trial in having if trial.number in drawn and not view.is_best(trial)]
        x = rounded(place(x_entry, trial.parameters[x_name], trial.number) for trial in shown)
        y = rounded(place(y_entry, trial.parameters[y_name], trial.number + 1) for trial in shown)
        points = trial_points(view, shown, state, x, y)
        # A white outline, so that the point is visible on any colour of the surface.
        points["marker"] = {**markers(state), "size": 6}
        if state == "complete":
            points["marker"]["line"] = {"width": 1, "color": "#ffffff"}
        traces.append(points)
    if view.best is not None and with_parameters([view.best], x_name, y_name):
        x, y = place(x_entry, view.best.parameters[x_name]), place(y_entry, view.best.parameters[y_name])
        traces.append(best_marker(view.best, x, y, ""))
    layout = {"xaxis": parameter_axis(x_name, x_entry), "yaxis": parameter_axis(y_name, y_entry)}
    return Chart(f"valid_loss over {x_name} and {y_name}", traces, layout, 460)


def _surface(view: StudyView, x_name: str, y_name: str) -> Json:
    x_entry, y_entry = view.study.space[x_name], view.study.space[y_name]
    (x_places, x_cells), (y_places, y_cells) = _cells(x_entry), _cells(y_entry)
    having = with_parameters(view.complete, x_name, y_name)
    points = np.array(
        [[fraction(x_entry, t.parameters[x_name]), fraction(y_entry, t.parameters[y_name])] for t in having]
    )
    log_losses = np.array(log_range(map(objective_value, having)))
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
            # The surface often spans less than the distance between two round values.
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.4g}" for tick in ticks],
            "thickness": 12,
            "outlinewidth": 0,
        },
    }


def _cells(entry: Space) -> tuple[list[float], NDArray[np.float64]]:
    """Return the centres of the cells along one hyperparameter: axis values, and fractions of its range."""
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
    """Return the kernel-weighted mean of values f64[n] at points f64[n, 2]: f64[y, x], NaN where no point is near."""
    bandwidth = _BANDWIDTH * len(points) ** (-1 / 6)
    x_weights = np.exp(-0.5 * ((x[:, None] - points[None, :, 0]) / bandwidth) ** 2)
    y_weights = np.exp(-0.5 * ((y[:, None] - points[None, :, 1]) / bandwidth) ** 2)
    weights = y_weights @ x_weights.T
    sums = (y_weights * values) @ x_weights.T
    return np.where(weights > _MIN_WEIGHT, sums / np.maximum(weights, _MIN_WEIGHT), np.nan)
