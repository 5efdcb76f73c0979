"""What the parameters have to do with the result: importances, correlations, slices, contour, parallel coordinates."""

from __future__ import annotations

from mnist_hpo.analysis.charts import importances as charts
from mnist_hpo.analysis.charts.contour import contour
from mnist_hpo.analysis.charts.parallel import parallel_coordinates
from mnist_hpo.analysis.charts.slices import slice_of
from mnist_hpo.analysis.charts.trials import drawn_trials
from mnist_hpo.analysis.importance import SIGNIFICANT_P, Importance
from mnist_hpo.analysis.scale import is_ordered, is_single
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.blocks import Missing, Section
from mnist_hpo.report.sections.history import choice_of_trials
from mnist_hpo.report.sections.missing import is_measured, no_effects, nothing_measured, too_few


def importances(view: StudyView, importance: Importance) -> Section:
    """Both importances of each parameter."""
    title = "Parameter importances"
    why_not = no_effects(view)
    if why_not is not None:
        return Section(title, "", [why_not])
    if not importance.ranking():
        return Section(title, "", [Missing("Neither method sees that any parameter made a difference.")])
    lead = (
        "fANOVA: the share of each parameter alone in the variance of valid_loss, by a random forest over the "
        f"{len(view.complete):,} complete trials. PED-ANOVA, the fast one: how much the parameters of the best "
        f"{importance.n_top:,} of them stand out from all the others', so it tells what decides at "
        "the top. Trials that a sampler chose are no random sample, and interactions are not shown: read "
        "large differences only."
    )
    if view.conditional:
        lead += f" fANOVA leaves out what some trials do not have: {', '.join(view.conditional)}."
    missing = [
        Missing(f"{name} cannot tell the parameters of this study apart.")
        for name, shares in (("fANOVA", importance.fanova), ("PED-ANOVA", importance.ped_anova))
        if not shares
    ]
    return Section(title, lead, [charts.importances(importance), *missing])


def correlations(view: StudyView, importance: Importance) -> Section:
    """Spearman's rank correlation of each ordered parameter."""
    title = "Rank correlations"
    why_not = no_effects(view)
    if why_not is not None:
        return Section(title, "", [why_not])
    if not importance.correlations:
        reason = "No parameter of this study is a number that took several values, so there is no order to compare."
        return Section(title, "", [Missing(reason)])
    unordered = [name for name, entry in view.study.space.items() if not is_ordered(entry)]
    lead = (
        f"Spearman's ρ of each parameter with valid_loss over the {len(view.complete):,} complete trials. Left of 0: "
        "higher values went with lower losses. Pale bars "
        f"are what chance alone may give (p ≥ {SIGNIFICANT_P}). A parameter whose best value lies in the "
        "middle may show none: see its slice."
    )
    if unordered:
        lead += f" Left out, since their values have no order: {', '.join(unordered)}."
    conditional = [name for name in view.conditional if name in importance.correlations]
    if conditional:
        lead += f" Over the trials that have it alone: {', '.join(conditional)}."
    return Section(title, lead, [charts.correlations(importance.correlations)])


def most_important(view: StudyView, importance: Importance) -> list[Section]:
    """The slices and the contour of the two most important parameters."""
    searched = [name for name, entry in view.study.space.items() if not is_single(entry)]
    names = [*importance.ranking(), *searched]
    two = list(dict.fromkeys(name for name in names if name in searched))[:2]
    chosen = "the two most important parameters" if importance.ranking() else "the first two parameters of the file"
    if not two:
        why_not = Missing("No parameter of this study has more than one value to choose from.")
    else:
        why_not = None if is_measured(view) else nothing_measured(view)
    lead = f"Every trial's lowest valid_loss over {chosen}. The star is the best trial."
    if any(view.study.space[name].type == "categorical" for name in two):
        lead += " Points over a choice are spread sideways only to part them."
    slices = Section("Slices", lead, [slice_of(view, name) for name in two])
    if why_not is not None:
        return [Section("Slices", "", [why_not]), Section("Contour", "", [why_not])]
    if len(two) < 2:
        reason = f"{two[0]} is the only parameter with more than one value: a contour needs two."
        return [slices, Section("Contour", "", [Missing(reason)])]
    if (few := too_few(view, *two)) is not None:
        return [slices, Section("Contour", "", [few])]
    lead = (
        f"valid_loss over {two[0]} and {two[1]}: the colour is a smooth mean over the complete trials near a place "
        "(the other parameters are averaged over as the sampler chose them). Read it near the points only: between and "
        "beyond them it is carried on from the nearest ones, and it is blank only where even those are very far."
    )
    lead += choice_of_trials(view, len(drawn_trials(view)))
    return [slices, Section("Contour", lead, [contour(view, two[0], two[1])])]


def parallel(view: StudyView, importance: Importance) -> Section:
    """A line a trial through all its parameters."""
    title = "Parallel coordinates"
    if not is_measured(view):
        return Section(title, "", [nothing_measured(view)])
    ranking = importance.ranking()
    names = ranking + [name for name in view.study.space if name not in ranking]
    chart, n_drawn = parallel_coordinates(view, names)
    order = ", the most important parameter first" if ranking else ""
    lead = f"Each line is a trial on its way through its parameters to its lowest valid_loss{order}."
    if any(name not in trial.parameters for trial in view.trials for name in names):
        lead += " A line has a gap at a parameter that its trial does not have."
    return Section(title, lead + choice_of_trials(view, n_drawn), [chart])
