"""Sections on the hyperparameters' effects: importances, correlations, slices, contour, parallel coordinates."""

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
    """Show both importances of each hyperparameter."""
    title = "Hyperparameter importances"
    unavailable = no_effects(view)
    if unavailable is not None:
        return Section(title, "", [unavailable])
    if not importance.ranking():
        return Section(title, "", [Missing("Neither method finds that any hyperparameter made a difference.")])
    lead = (
        "fANOVA: the share of each hyperparameter's main effect in the variance of valid_loss, by a random forest over "
        f"the {len(view.complete):,} complete trials. PED-ANOVA: how much the hyperparameters of the best "
        f"{importance.n_top:,} of them differ from those of all, so it shows what matters among the best. A sampler's "
        "trials are not a random sample, and interactions are not shown: only large differences are meaningful."
    )
    if view.conditional:
        lead += f" fANOVA leaves out hyperparameters that some trials do not have: {', '.join(view.conditional)}."
    missing = [
        Missing(f"{name} cannot distinguish the hyperparameters of this study.")
        for name, shares in (("fANOVA", importance.fanova), ("PED-ANOVA", importance.ped_anova))
        if not shares
    ]
    return Section(title, lead, [charts.importances(importance), *missing])


def correlations(view: StudyView, importance: Importance) -> Section:
    """Show Spearman's rank correlation of each ordered hyperparameter."""
    title = "Rank correlations"
    unavailable = no_effects(view)
    if unavailable is not None:
        return Section(title, "", [unavailable])
    if not importance.correlations:
        reason = "No hyperparameter of this study is numeric and took several values, so there is no order to compare."
        return Section(title, "", [Missing(reason)])
    unordered = [name for name, entry in view.study.space.items() if not is_ordered(entry)]
    metric = view.study.objectives[0].metric
    lead = (
        f"Spearman's ρ of each hyperparameter with {metric} over the {len(view.complete):,} complete trials. Left of "
        f"0: higher values went with a lower {metric}. Pale bars are not significant (p ≥ {SIGNIFICANT_P}). A "
        "hyperparameter whose best value is in the middle of its range may show no correlation: see its slice."
    )
    if unordered:
        lead += f" Left out, since their values have no order: {', '.join(unordered)}."
    conditional = [name for name in view.conditional if name in importance.correlations]
    if conditional:
        lead += f" Only over the trials that have it: {', '.join(conditional)}."
    return Section(title, lead, [charts.correlations(importance.correlations)])


def most_important(view: StudyView, importance: Importance) -> list[Section]:
    """Show the slices and the contour of the two most important hyperparameters."""
    searched = [name for name, entry in view.study.space.items() if not is_single(entry)]
    names = [*importance.ranking(), *searched]
    two = list(dict.fromkeys(name for name in names if name in searched))[:2]
    which = "most important" if importance.ranking() else "first"
    if not two:
        unavailable = Missing("No hyperparameter of this study has more than one possible value.")
    else:
        unavailable = None if is_measured(view) else nothing_measured(view)
    lead = f"Every trial's valid_loss over the two {which} hyperparameters. The star is the best trial."
    if any(view.study.space[name].type == "categorical" for name in two):
        lead += " Points over a choice have a small horizontal offset so that they do not overlap."
    slices = Section("Slices", lead, [slice_of(view, name) for name in two])
    if unavailable is not None:
        return [Section("Slices", "", [unavailable]), Section("Contour", "", [unavailable])]
    if len(two) < 2:
        reason = f"{two[0]} is the only hyperparameter with more than one value: a contour needs two."
        return [slices, Section("Contour", "", [Missing(reason)])]
    if (few := too_few(view, *two)) is not None:
        return [slices, Section("Contour", "", [few])]
    lead = (
        f"valid_loss over {two[0]} and {two[1]}: the colour is a smoothed mean over nearby complete trials, with the "
        "other hyperparameters averaged as sampled. It is reliable only near the points: elsewhere it is extrapolated "
        "from the nearest ones, and blank only where these are very far."
    )
    lead += choice_of_trials(view, len(drawn_trials(view)))
    return [slices, Section("Contour", lead, [contour(view, two[0], two[1])])]


def parallel(view: StudyView, importance: Importance) -> Section:
    """Show one line per trial through all its hyperparameters."""
    title = "Parallel coordinates"
    if not is_measured(view):
        return Section(title, "", [nothing_measured(view)])
    ranking = importance.ranking()
    names = ranking + [name for name in view.study.space if name not in ranking]
    chart, n_drawn = parallel_coordinates(view, names)
    order = ", the most important hyperparameter first" if ranking else ""
    lead = f"Each line connects a trial's hyperparameters and its valid_loss{order}."
    if any(name not in trial.parameters for trial in view.trials for name in names):
        lead += " A line has a gap at a hyperparameter that its trial does not have."
    return Section(title, lead + choice_of_trials(view, n_drawn), [chart])
