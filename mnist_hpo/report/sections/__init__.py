"""The report's sections in order. A section without content states why it is empty."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.importance import Importance
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.blocks import Section
from mnist_hpo.report.sections import champion, history, overfitting, parameters, provenance, summary, time, tradeoff


def make_sections(view: StudyView, importance: Importance, tests: Sequence[ChampionTest]) -> list[Section]:
    """Return all sections of a study's report."""
    return [
        summary.summary(view, importance, tests),
        history.optimisation_history(view),
        *tradeoff.tradeoff(view),
        parameters.importances(view, importance),
        parameters.correlations(view, importance),
        *parameters.most_important(view, importance),
        parameters.parallel(view, importance),
        history.learning_curves(view),
        *overfitting.overfitting(view),
        history.top_trials(view),
        time.timeline(view),
        time.time_spent(view),
        champion.champion_test(view, tests),
        provenance.provenance(view),
    ]
