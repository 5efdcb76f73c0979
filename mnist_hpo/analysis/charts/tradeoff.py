"""The chart of the trade-off between two objectives, with the Pareto front."""

from __future__ import annotations

from mnist_hpo.analysis.charts.figure import BEST, HOVER, Chart, Json, by_state, loss_axis, rounded, trial_points
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import measure, pareto_front


def tradeoff(view: StudyView, metric: str) -> Chart:
    """Draw each trial's first objective against another metric; the Pareto front is over all objectives."""
    first = view.study.objectives[0].metric
    traces: list[Json] = []
    for state, trials in by_state(view):
        shown = [trial for trial in trials if trial.epochs]
        x, y = (rounded(measure(view.study, trial, name) for trial in shown) for name in (metric, first))
        traces.append(trial_points(view, shown, state, x, y))
    front = sorted(pareto_front(view.trials), key=lambda trial: measure(view.study, trial, metric) or 0.0)
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "Pareto front",
            "x": rounded(measure(view.study, trial, metric) for trial in front),
            "y": rounded(measure(view.study, trial, first) for trial in front),
            "line": {"color": BEST, "width": 1.5},
            "marker": {"color": BEST, "size": 9},
            "trials": [trial.number for trial in front],
            "hovertemplate": HOVER,
        }
    )
    values = {
        name: [v for t in view.trials if (v := measure(view.study, t, name)) is not None] for name in (first, metric)
    }
    layout = {"xaxis": loss_axis(values[metric], metric), "yaxis": loss_axis(values[first], first)}
    return Chart(f"Trade-off between {first} and {metric}", traces, layout, 420)
