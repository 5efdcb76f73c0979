"""A study's plots as one picture, `plots.png`, which MLflow previews."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnist_hpo.analysis.importance import Importance, Shares
from mnist_hpo.analysis.progress import best_so_far
from mnist_hpo.analysis.scale import fractions
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_loss, objective_value
from mnist_hpo.storage.records import TrialRecord, best_of

_COLOURS = {"complete": "tab:blue", "pruned": "tab:orange", "failed": "tab:red"}


def draw_picture(view: StudyView, importance: Importance) -> Figure:
    """Return a figure of history, importances, learning curves and parallel coordinates of a study in any state."""
    trials = view.trials
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_history(axes[0, 0], trials)
    _draw_importances(axes[0, 1], importance.ped_anova)
    _draw_curves(axes[1, 0], trials)
    _draw_parallel(axes[1, 1], view)
    best = view.best
    metric = view.study.objectives[0].metric
    ending = f", best {metric} {objective_value(best):.5f} (#{best.number:03d})" if best else ""
    figure.suptitle(f"{view.study.name}: {len(trials)} trials{ending}")
    return figure


def _draw_history(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    axes.set_title("optimisation history")
    drawn = [trial for trial in trials if trial.state in ("complete", "pruned")]
    for state in ("complete", "pruned"):
        of_state = [trial for trial in drawn if trial.state == state]
        losses = {trial.number: loss for trial in of_state if (loss := kept_loss(trial)) is not None}
        axes.scatter(list(losses), list(losses.values()), s=16, color=_COLOURS[state], label=state)
    if best := best_so_far(trials):
        axes.step(*zip(*best, strict=True), where="post", color="black", lw=1, label="best so far")
    axes.set(xlabel="trial", ylabel="valid_loss", yscale=_scale(drawn))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _scale(trials: Sequence[TrialRecord]) -> str:
    """Return the scale of the loss axis: logarithmic, but linear without losses, where matplotlib refuses "log"."""
    return "log" if any(trial.valid_loss for trial in trials) else "linear"


def _draw_importances(axes: Axes, shares: Shares) -> None:
    axes.set_title("hyperparameter importances (PED-ANOVA)")
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [shares[name] for name in names], color="tab:blue")
    axes.set(xlabel="share", xlim=(0, 1))


def _draw_curves(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    axes.set_title("learning curves")
    best = best_of(trials)
    for trial in trials:
        if trial.valid_loss:
            epochs, losses = list(trial.valid_loss), list(trial.valid_loss.values())
            colour = _COLOURS.get(trial.state, "grey")
            axes.plot(epochs, losses, color=colour, lw=0.8, alpha=0.6, marker=".", ms=2)
    if best:
        axes.plot(
            list(best.valid_loss), list(best.valid_loss.values()), color="black", lw=2, label=f"#{best.number:03d}"
        )
        axes.legend(fontsize=8)
    axes.set(xlabel="epoch", ylabel="valid_loss", yscale=_scale(trials))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_parallel(axes: Axes, view: StudyView) -> None:
    """Draw one line per complete trial through its hyperparameters; the lower its loss, the darker the line.

    A line has a gap at each hyperparameter that the trial does not have.
    """
    axes.set_title("parallel coordinates (dark: low valid_loss)")
    names, n_lines = list(view.study.space), len(view.complete)
    for rank, trial in enumerate(reversed(view.complete), start=1):
        share = rank / n_lines
        line = [math.nan if place is None else place for place in fractions(view.study, trial, names)]
        (drawn,) = axes.plot(range(len(names)), line, color="tab:blue", alpha=0.1 + 0.9 * share**3)
        drawn.set_linewidth(0.5 + 1.5 * share**3)
        if any(map(math.isnan, line)):
            drawn.set_marker(".")  # A value between two gaps has no line, so draw a point.
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks([0, 1], ["low", "high"])
