"""The section about the champion's test."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.charts.champion import confusion
from mnist_hpo.analysis.classification import by_class
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.words import mean_and_std, percent, seeds_in_words
from mnist_hpo.report.blocks import Missing, Section, Table
from mnist_hpo.report.sections.missing import run_command


def champion_test(view: StudyView, tests: Sequence[ChampionTest]) -> Section:
    """Show the test figures of the re-trained trials."""
    title = "The champion's test"
    retrain = f"mnist-hpo retrain {view.study.name}"
    if view.best is None:
        return Section(title, "", [Missing("There is no best trial to re-train and test yet.", run_command(view))])
    if not tests:
        reason = (
            "The best trial has not been re-trained and tested yet, or not in this folder. "
            "The search itself never uses the test examples. To test the trial, before you create this report again:"
        )
        return Section(title, "", [Missing(reason, retrain)])
    header = ["trial", "test accuracy", "macro F1", "log loss", "seeds", "epochs", "re-trained as recorded"]
    rows = [
        [
            f"#{test.trial}",
            mean_and_std(test.test_accuracy_mean, test.test_accuracy_std, percent=True),
            mean_and_std(test.test_macro_f1_mean, test.test_macro_f1_std, percent=True),
            mean_and_std(test.test_log_loss_mean, test.test_log_loss_std),
            seeds_in_words(test.n_seeds, test.n_diverged),
            str(test.best_epoch),
            test.reproduced,
        ]
        for test in tests
    ]
    numbers = [test.trial for test in tests]
    chosen = numbers.index(view.best.number) if view.best.number in numbers else None
    table = Table(header, rows, highlighted=chosen)
    lead = (
        "Re-trained on train + valid, once for each seed, and tested on examples that the search never used: "
        "mean ± standard deviation over the seeds"
        + (" that did not diverge." if any(test.n_diverged for test in tests) else ".")
    )
    if chosen is None:
        reason = f"Trial #{view.best.number}, which is now the best, has not been tested yet. To test it:"
        return Section(title, lead, [table, Missing(reason, retrain)])
    matrix = tests[chosen].confusion_matrix
    if matrix is None:
        reason = (
            f"Every seed of #{view.best.number} diverged: there is no model to test. Another trial may be more stable:"
        )
        return Section(title, lead, [table, Missing(reason, f"{retrain} --trial NUMBER")])
    whose = f"Seed {tests[chosen].registered_seed} of #{view.best.number}"
    return Section(title, lead, [table, confusion(matrix, whose), _per_class(matrix, whose)])


def _per_class(matrix: Sequence[Sequence[int]], caption: str) -> Table:
    """Return a table of the precision and the recall of each class."""
    rows = [
        [str(label), f"{figures.n_examples:,}", percent(figures.precision), percent(figures.recall)]
        for label, figures in enumerate(by_class(matrix))
    ]
    return Table(["digit", "test examples", "precision", "recall"], rows, caption=caption)
