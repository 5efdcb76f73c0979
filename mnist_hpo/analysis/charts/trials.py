"""Charts over trials: the optimisation history and the learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.charts.figure import (
    BEST,
    HOVER,
    INK,
    STATE_COLOURS,
    Chart,
    Json,
    best_marker,
    by_state,
    loss_axis,
    markers,
    rounded,
    trial_points,
    whole_number_ticks,
)
from mnist_hpo.analysis.progress import best_so_far
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_loss, objective_value
from mnist_hpo.storage.records import TrialRecord

MAX_CURVES = 300
"""More curves would hide each other and take the browser seconds to draw."""
FEW_CURVES = 60
"""Fewer curves can be told apart."""


def history(view: StudyView) -> Chart:
    """Draw each trial's valid_loss by number, and the best so far of the complete trials."""
    traces: list[Json] = []
    for state, trials in by_state(view):
        shown = [trial for trial in trials if trial.epochs]
        numbers = [trial.number for trial in shown]
        traces.append(trial_points(view, shown, state, numbers, rounded(map(kept_loss, shown))))
    numbers_without_loss = [trial.number for trial in view.trials if trial.state == "failed" and not trial.epochs]
    if numbers_without_loss:
        traces.append(_trials_without_loss(numbers_without_loss))
    traces += _best_so_far(view)
    losses = [loss for loss in map(kept_loss, view.trials) if loss is not None]
    layout = {
        "xaxis": {"title": {"text": "trial"}, "zeroline": False, **whole_number_ticks(0, len(view.trials) - 1)},
        "yaxis": loss_axis(losses),
        # Trials that failed before they had a loss are drawn at the upper edge.
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    }
    return Chart("Optimisation history: valid_loss by trial", traces, layout, 420)


def learning_curves(view: StudyView) -> tuple[Chart, int]:
    """Draw valid_loss by epoch; return also the number of curves."""
    drawn = drawn_trials(view)
    is_few = len(drawn) < FEW_CURVES
    traces: list[Json] = []
    for state, trials in by_state(view):
        chosen = [trial for trial in trials if trial.number in drawn and trial.epochs and not view.is_best(trial)]
        if chosen:
            traces.append(
                {
                    **_joined_curves(chosen),
                    "name": view.state_name(state),
                    # With many curves, nobody sees a point for each epoch, and points take most of the drawing time.
                    "mode": "lines+markers" if is_few else "lines",
                    "line": {"color": STATE_COLOURS[state], "width": 1.3},
                    "marker": {"color": STATE_COLOURS[state], "size": 3.5},
                    "opacity": 0.75 if is_few else 0.4,
                }
            )
    if view.best is not None and view.best.kept_epoch is not None:
        at, loss = view.best.kept_epoch, view.best.valid_loss[view.best.kept_epoch]
        traces.append(
            {**_joined_curves([view.best]), "mode": "lines", "name": "best", "line": {"color": BEST, "width": 3}}
        )
        traces.append(best_marker(view.best, at, loss, f"#{view.best.number}") | {"showlegend": False})
    losses = [loss for trial in view.trials if trial.number in drawn for loss in trial.valid_loss.values()]
    longest = max(len(trial.epochs) for trial in view.trials if trial.number in drawn)
    epochs = {"title": {"text": "epoch"}, "zeroline": False, "range": [0.5, longest + 0.5]}
    layout = {"xaxis": {**epochs, **whole_number_ticks(1, longest)}, "yaxis": loss_axis(losses)}
    return Chart("Learning curves: valid_loss by epoch", traces, layout, 440), len(drawn)


def drawn_trials(view: StudyView) -> set[int]:
    """Choose the trials to draw: all with an epoch, or at most `MAX_CURVES`.

    Up to a third of the limit are the best trials; the others are evenly spaced among the rest.

    Returns:
        The numbers of the trials.

    """
    with_epochs = [trial.number for trial in view.trials if trial.epochs]
    if len(with_epochs) <= MAX_CURVES:
        return set(with_epochs)
    best = [trial.number for trial in view.complete[: MAX_CURVES // 3]]
    rest = sorted(set(with_epochs) - set(best))
    n_more = MAX_CURVES - len(best)
    return {*best, *(rest[i * len(rest) // n_more] for i in range(n_more))}


def _joined_curves(trials: Sequence[TrialRecord]) -> Json:
    """Draw many curves as one trace with gaps between them, since one trace per curve would be slow."""
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        x += [*trial.valid_loss, None]
        y += [*rounded(trial.valid_loss.values()), None]
        numbers += [*([trial.number] * len(trial.valid_loss)), None]
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "trials": numbers,
        "hovertemplate": "%{customdata}<br><i>epoch %{x}: %{y:.5f}</i><extra></extra>",
    }


def _trials_without_loss(numbers: Sequence[int]) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "failed in its first epoch",
        "x": list(numbers),
        "y": [0.985] * len(numbers),
        "yaxis": "y2",
        "marker": {**markers("failed"), "size": 9},
        "trials": list(numbers),
        "hovertemplate": HOVER,
    }


def _best_so_far(view: StudyView) -> list[Json]:
    if view.best is None:
        return []
    numbers, values = zip(*best_so_far(view.trials), strict=True)
    best = objective_value(view.best)
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": [*numbers, len(view.trials) - 1],
        "y": rounded([*values, values[-1]]),
        "line": {"color": INK, "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    text = f"#{view.best.number}: {best:.5f}"
    near_end = view.best.number > 0.85 * len(view.trials)
    position = "bottom left" if near_end else "bottom right"
    return [line, best_marker(view.best, view.best.number, best, text, position)]
