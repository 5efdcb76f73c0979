"""The chart of anytime curves of the compared studies or trials."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mnist_hpo.analysis.anytime import AnytimePoint
from mnist_hpo.analysis.charts.figure import SERIES_COLOURS, whole_number_ticks
from mnist_hpo.analysis.comparison import Compared, Comparison

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_AXES = (("n_trials", "trials begun"), ("n_epochs", "epochs"), ("worker_s", "worker seconds"))


def anytime_figure(comparison: Comparison) -> go.Figure:
    """Draw the best valid_loss so far against trials (for studies only), epochs and worker seconds."""
    axes, compared = anytime_axes(comparison), comparison.compared
    figure = make_subplots(1, len(axes), shared_yaxes=True, horizontal_spacing=0.03)
    for index, entry in enumerate(compared):
        line = {
            "color": SERIES_COLOURS[index % len(SERIES_COLOURS)],
            "dash": _DASHES[index % len(_DASHES)],
            "width": 2.5,
        }
        points = _extended_to_end(entry)
        for column, (field, title) in enumerate(axes, start=1):
            curve = go.Scatter(
                x=[getattr(point, field) for point in points],
                y=[point.valid_loss for point in points],
                name=entry.label,
                legendgroup=entry.label,
                showlegend=column == 1,
                mode="lines+markers",
                marker={"size": 5},
                line={**line, "shape": "hv"},
                hovertemplate=f"%{{y:.5f}} after %{{x:,.4~g}} {title}<extra>{entry.label}</extra>",
            )
            figure.add_trace(curve, row=1, col=column)
    for column, (field, title) in enumerate(axes, start=1):
        figure.update_xaxes(title_text=title, rangemode="tozero", row=1, col=column)
        if field in ("n_trials", "n_epochs"):
            longest = max((getattr(point, field) for entry in compared for point in _extended_to_end(entry)), default=0)
            # Half as many ticks, since three panels side by side are narrow.
            figure.update_xaxes(whole_number_ticks(0, 2 * longest), row=1, col=column)
    figure.update_yaxes(type="log", tickformat=".3~f", nticks=8)
    figure.update_yaxes(title_text="best valid loss so far", row=1, col=1)
    figure.update_layout(
        template="none",
        height=420,
        margin={"l": 70, "r": 15, "t": 45, "b": 55},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"namelength": -1},
    )
    return figure


def anytime_axes(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return the fields of `AnytimePoint` to use as x-axes, with their titles."""
    return _AXES if comparison.has_studies else _AXES[1:]


def _extended_to_end(entry: Compared) -> list[AnytimePoint]:
    """Return the improvements, with the last one repeated at the total cost."""
    if not entry.anytime:
        return []
    last = AnytimePoint(
        n_trials=sum(entry.n_trials.values()),
        n_epochs=entry.n_epochs,
        worker_s=entry.worker_s,
        valid_loss=entry.anytime[-1].valid_loss,
    )
    return [*entry.anytime, last]
