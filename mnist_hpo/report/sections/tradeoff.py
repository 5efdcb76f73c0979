"""The section on the trade-off between a study's objectives."""

from __future__ import annotations

from mnist_hpo.analysis.charts.tradeoff import tradeoff as chart
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import measure, pareto_front
from mnist_hpo.analysis.words import brief
from mnist_hpo.report.blocks import Section, Table
from mnist_hpo.report.sections.missing import is_measured, nothing_measured


def tradeoff(view: StudyView) -> list[Section]:
    """Show a chart for each objective except the first, and the Pareto front; nothing for a single objective."""
    metrics = [objective.metric for objective in view.study.objectives]
    if len(metrics) == 1:
        return []
    title = "Trade-off"
    if not is_measured(view):
        return [Section(title, "", [nothing_measured(view)])]
    front = pareto_front(view.trials)
    lead = (
        f"No complete trial is better than one of the {len(front)} on the Pareto front in one objective without being "
        "worse in another. Trials that are not complete are drawn with their figures so far."
    )
    names = list(view.study.space)
    rows = [
        [
            f"#{trial.number}",
            *(brief(value) if (value := measure(view.study, trial, metric)) is not None else "–" for metric in metrics),
            *(brief(trial.parameters.get(name)) for name in names),
        ]
        for trial in front
    ]
    table = Table(["trial", *metrics, *names], rows, caption="The Pareto front")
    return [Section(title, lead, [*(chart(view, metric) for metric in metrics[1:]), table])]
