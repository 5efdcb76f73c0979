"""Sentences on why the best trial won. Each is supported by the record."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.importance import SIGNIFICANT_P, Importance
from mnist_hpo.analysis.scale import fraction, is_ordered
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_accuracy, objective_value, with_parameters
from mnist_hpo.analysis.words import brief, percent, signed
from mnist_hpo.spec.study import CategoricalSpace
from mnist_hpo.storage.records import TrialRecord

_N_PARAMETERS = 3
_MIN_TREND_RHO = 0.3
"""A weaker trend may be significant but uninformative, for example if the best values are in the middle."""


def why_it_won(view: StudyView, importance: Importance, tests: Sequence[ChampionTest]) -> list[str]:
    """Return sentences on the best trial's result, its lead, and its most important hyperparameters.

    Args:
        view: a study with a complete trial.
        importance: the importances of its hyperparameters.
        tests: the test figures of its re-trained trials.

    """
    assert view.best is not None
    best = view.best
    sentences = [_result_sentence(view, best), *_seed_variation(view, best, tests), *_higher_accuracy(view, best)]
    ranking = importance.ranking()
    if not ranking:
        return sentences
    shares, method = importance.shares, "fANOVA" if importance.fanova else "PED-ANOVA"
    named = [f"{name} ({100 * shares[name]:.0f} %)" for name in ranking[:_N_PARAMETERS] if name in shares]
    sentences.append(f"What mattered most, by {method}: {_enumeration(named)}.")
    sentences += _method_disagreement(importance)
    return sentences + [_hyperparameter_sentence(view, best, name, importance) for name in ranking[:_N_PARAMETERS]]


def _result_sentence(view: StudyView, best: TrialRecord) -> str:
    value, accuracy = objective_value(best), kept_accuracy(best)
    n_trials = _count(len(view.complete), "complete trial")
    reached = f"Trial #{best.number} has the {_best_value_name(view)} of {n_trials}: {value:.5f}"
    reached += f" at epoch {best.kept_epoch} of {len(best.epochs)}"
    reached += "" if accuracy is None else f", with {percent(accuracy)} validation accuracy"
    if len(view.complete) < 2:
        return f"{reached}. There is no other to compare it with yet."
    second, lead = view.complete[1], _lead(view)
    behind = f"{lead:.5f} ({100 * lead / objective_value(second):.1f} %) behind"
    return f"{reached}. The runner-up, #{second.number}, is {behind}."


def _lead(view: StudyView) -> float:
    """Return the lead of the best over the second of at least two complete trials."""
    return abs(objective_value(view.complete[1]) - objective_value(view.complete[0]))


def _best_value_name(view: StudyView) -> str:
    """Return "lowest valid_loss", for example: what the best trial has, by the first objective."""
    objective = view.study.objectives[0]
    return f"{'lowest' if objective.sign > 0 else 'highest'} {objective.metric}"


def _seed_variation(view: StudyView, best: TrialRecord, tests: Sequence[ChampionTest]) -> list[str]:
    """Compare the lead in valid_loss with the variation between seeds, which only tests of re-trained models show."""
    if view.study.objectives[0].metric != "valid_loss":
        return []
    # One seed alone has a deviation of 0.
    test = next((test for test in tests if test.trial == best.number), None)
    deviation = test.test_log_loss_std if test else None
    if test is None or not deviation or len(view.complete) < 2:
        return []
    lead = _lead(view)
    size = "within" if lead <= deviation else f"{lead / deviation:.1f} times"
    known = f"± {deviation:.4f} in the log loss on test, over {test.n_seeds - test.n_diverged} seeds"
    return [f"This lead is {size} what another seed changes ({known})."]


def _higher_accuracy(view: StudyView, best: TrialRecord) -> list[str]:
    """Name the trial with the highest accuracy if it is not the best trial, so that the tables do not surprise."""
    accuracies = {trial.number: kept_accuracy(trial) or 0.0 for trial in view.complete}
    highest = max(accuracies, key=lambda number: accuracies[number])
    if accuracies[highest] <= accuracies[best.number]:
        return []
    figures = f"{percent(accuracies[highest])} against {percent(accuracies[best.number])}"
    return [f"#{highest} has the higher valid_accuracy, {figures}; the study's objective is {view.study.objective}."]


def _method_disagreement(importance: Importance) -> list[str]:
    """Report if PED-ANOVA and fANOVA rank different hyperparameters first."""
    fanova, ped_anova = importance.fanova, importance.ped_anova
    if not fanova or not ped_anova:
        return []
    fanova_first = max(fanova, key=lambda name: fanova[name])
    ped_anova_first = max(ped_anova, key=lambda name: ped_anova[name])
    if fanova_first == ped_anova_first:
        return []
    figures = f"{100 * ped_anova[ped_anova_first]:.0f} %, and {fanova_first} {100 * ped_anova[fanova_first]:.0f} %"
    method = f"which measures what sets the best {importance.n_top:,} trials apart"
    return [f"The two methods disagree: PED-ANOVA, {method}, puts {ped_anova_first} first ({figures})."]


def _hyperparameter_sentence(view: StudyView, best: TrialRecord, name: str, importance: Importance) -> str:
    entry, value = view.study.space[name], best.parameters.get(name)
    if value is None:
        return f"{name}: the best trial does not have it."
    if not is_ordered(entry):
        assert isinstance(entry, CategoricalSpace)
        return f"{name}: the best trial has {brief(value)}; {_best_by_choice(view, name)}."
    if isinstance(entry, CategoricalSpace):
        numbers = sorted(float(choice) for choice in entry.choices)
        at = numbers.index(float(value)) / max(len(numbers) - 1, 1)
    else:
        at = fraction(entry, value)
    place = "at the low end" if at < 0.1 else "at the high end" if at > 0.9 else f"{100 * at:.0f} % of the way up"
    scale = ", on the log scale" if not isinstance(entry, CategoricalSpace) and entry.log else ""
    found = importance.correlations.get(name)
    if found is None:
        is_rare = name in view.conditional
        trend = "too few complete trials have it" if is_rare else "it had one value in all complete trials"
    else:
        figures = f"Spearman's ρ = {signed(found.rho)}, p = {found.p_value:.2g}"
        if found.p_value >= SIGNIFICANT_P or abs(found.rho) < _MIN_TREND_RHO:
            trend = f"no steady trend over the complete trials ({figures})"
        else:
            objective = view.study.objectives[0]
            better = "lower" if objective.sign > 0 else "higher"
            values = "lower" if objective.sign * found.rho > 0 else "higher"
            trend = f"{values} values went with a {better} {objective.metric} ({figures})"
    return f"{name}: {trend}; the best trial's {brief(value)} is {place} of the searched range{scale}."


def _best_by_choice(view: StudyView, name: str) -> str:
    """Return a text with the best value of each choice."""
    reached: dict[str, float] = {}
    for trial in with_parameters(view.complete, name):  # the best first
        reached.setdefault(brief(trial.parameters[name]), objective_value(trial))
    values = _enumeration([f"{choice} {value:.5f}" for choice, value in reached.items()])
    return f"the {_best_value_name(view)} by choice: {values}"


def _enumeration(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
