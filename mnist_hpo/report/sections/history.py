"""Sections that compare trials: the optimisation history, the learning curves, the top trials."""

from __future__ import annotations

from mnist_hpo.analysis.charts import trials as charts
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import objective_value, trial_figures
from mnist_hpo.analysis.words import brief, duration, percent
from mnist_hpo.report.blocks import Missing, Section, Table
from mnist_hpo.report.sections.missing import is_measured, nothing_measured, run_command

_N_TOP = 10


def optimisation_history(view: StudyView) -> Section:
    """Show every trial's lowest loss, and the best so far."""
    title = "Optimisation history"
    if not is_measured(view):
        return Section(title, "", [nothing_measured(view)])
    lead = (
        "Each point is the valid_loss of a trial; the line is the best complete trial so far. The loss of a "
        "pruned trial might have become lower later. Hover over a trial to see its hyperparameters."
    )
    return Section(title, lead, [charts.history(view)])


def learning_curves(view: StudyView) -> Section:
    """Show the loss by epoch."""
    title = "Learning curves"
    if not is_measured(view):
        return Section(title, "", [nothing_measured(view)])
    chart, n_drawn = charts.learning_curves(view)
    lead = "valid_loss after each epoch. A pruned trial's curve ends where it was pruned."
    return Section(title, lead + choice_of_trials(view, n_drawn), [chart])


def choice_of_trials(view: StudyView, n_drawn: int) -> str:
    """Return a sentence about which trials are drawn; empty if all of them are."""
    n_trials = sum(bool(trial.epochs) for trial in view.trials)
    if n_drawn == n_trials:
        return ""
    return f" Of {n_trials:,} trials {n_drawn:,} are drawn: the best hundred, and evenly spaced ones of the others."


def top_trials(view: StudyView) -> Section:
    """Show the best trials as a table."""
    title = "Top trials"
    if not view.complete:
        return Section(title, "", [Missing("No trial is complete yet.", run_command(view))])
    top = view.complete[:_N_TOP]
    names = list(view.study.space)
    first = objective_value(top[0])
    rows: list[list[str]] = []
    for trial in top:
        value, figures = objective_value(trial), trial_figures(view.study, trial)
        behind = "–" if trial is top[0] else f"{value - first:+.5f}"
        reached = [f"#{trial.number}", f"{value:.5f}", behind, percent(figures.best_valid_accuracy)]
        spent = [f"{figures.best_epoch} of {figures.n_epochs}", duration(figures.seconds)]
        rows.append([*reached, *spent, *(brief(trial.parameters.get(name)) for name in names)])
    header = ["trial", view.study.objectives[0].metric, "behind", "valid_accuracy", "kept epoch", "time", *names]
    lead = (
        f"The best {len(top)} of {len(view.complete):,} complete trials."
        if len(top) > 1
        else "The only complete trial."
    )
    return Section(title, lead, [Table(header, rows, highlighted=0)])
