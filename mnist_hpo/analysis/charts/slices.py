"""The chart of valid_loss over one hyperparameter."""

from __future__ import annotations

from mnist_hpo.analysis.charts.figure import (
    Chart,
    Json,
    best_marker,
    by_state,
    loss_axis,
    parameter_axis,
    place,
    rounded,
    trial_points,
)
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_loss, objective_value, with_parameters


def slice_of(view: StudyView, name: str) -> Chart:
    """Draw each trial's valid_loss over one hyperparameter; trials that do not have it are left out."""
    entry = view.study.space[name]
    traces: list[Json] = []
    for state, trials in by_state(view):
        having = with_parameters(trials, name)
        shown = [trial for trial in having if trial.epochs and not view.is_best(trial)]
        x = rounded(place(entry, trial.parameters[name], trial.number) for trial in shown)
        traces.append(trial_points(view, shown, state, x, rounded(map(kept_loss, shown))))
    if view.best is not None and name in view.best.parameters:
        x = place(entry, view.best.parameters[name])
        traces.append(best_marker(view.best, x, objective_value(view.best), ""))
    losses = [loss for loss in map(kept_loss, with_parameters(view.trials, name)) if loss is not None]
    layout = {"xaxis": parameter_axis(name, entry), "yaxis": loss_axis(losses)}
    return Chart(f"valid_loss over {name}", traces, layout, 380)
