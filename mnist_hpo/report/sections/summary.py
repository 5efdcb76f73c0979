"""The section on why the best trial won: key figures, sentences, and its hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.importance import Importance, Shares
from mnist_hpo.analysis.scale import is_ordered
from mnist_hpo.analysis.study_figures import study_figures
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.timeline import sessions, time_spent
from mnist_hpo.analysis.trial_figures import kept_accuracy, objective_value, with_parameters
from mnist_hpo.analysis.words import brief, duration, percent, range_text, signed
from mnist_hpo.report.blocks import Block, Missing, Points, Section, Table, Tiles
from mnist_hpo.report.sections.missing import run_command
from mnist_hpo.report.sections.why import why_it_won
from mnist_hpo.storage.records import TrialRecord, named_counts
from mnist_hpo.trial_plan import all_parameters


def summary(view: StudyView, importance: Importance, tests: Sequence[ChampionTest]) -> Section:
    """Show the key figures, and why the best trial won."""
    figures = study_figures(view.study, view.trials)
    states = ", ".join(named_counts(figures.n_trials, is_running=view.is_running)) or "none started"
    spent = time_spent(view.trials)
    worked_s = spent.train_s + spent.evaluate_s + spent.compile_s + spent.host_s
    running = sum(session.seconds for session in sessions(view.trials))
    state = "complete" if figures.is_complete else "unfinished"
    tiles = [
        ("state", state, f"{figures.n_ended:,} of {view.study.budget.n_trials:,} trials ended"),
        ("trials", f"{len(view.trials):,}", states),
        ("epochs", f"{figures.n_epochs:,}", f"{duration(worked_s)} of worker time, {duration(running)} by the clock"),
    ]
    best = view.best
    if best is None:
        reason = f"No trial is complete yet ({states}), so there is no best trial."
        return Section("Why it won", "", [Tiles(tiles), Missing(reason, run_command(view))])
    accuracy = kept_accuracy(best)
    value = f"{objective_value(best):.5f}"
    tiles.insert(
        0, (f"best {view.study.objectives[0].metric}", value, f"trial #{best.number}, epoch {best.kept_epoch}")
    )
    if accuracy is not None:
        tiles.insert(1, ("its validation accuracy", percent(accuracy), "on examples held back from training"))
    sentences = Points(why_it_won(view, importance, tests))
    blocks: list[Block] = [Tiles(tiles), sentences, _best_table(view, best, importance)]
    return Section("Why it won", "", blocks)


def _best_table(view: StudyView, best: TrialRecord, importance: Importance) -> Table:
    """Return the best trial's hyperparameters: searched ones with their importances, then the others."""
    top = view.complete[: importance.n_top]
    best_few = "best 1 trial" if len(top) == 1 else f"best {len(top)} trials"
    header = ["hyperparameter", "best trial", "searched", best_few, "fANOVA", "PED-ANOVA", "Spearman ρ"]
    ranked = importance.ranking()
    names = ranked + [name for name in view.study.space if name not in ranked]
    rows: list[list[str]] = []
    for name in names:
        correlation = importance.correlations.get(name)
        rows.append(
            [
                name,
                brief(best.parameters.get(name)),
                range_text(view.study.space[name]),
                _spread(view, top, name),
                _share(importance.fanova, name),
                _share(importance.ped_anova, name),
                signed(correlation.rho) if correlation else "–",
            ]
        )
    rest = {name: v for name, v in all_parameters(view.study, best.parameters).items() if name not in view.study.space}
    rows += [[name, brief(value), _origin(view, name), "", "", "", ""] for name, value in rest.items()]
    return Table(header, rows)


def _spread(view: StudyView, trials: Sequence[TrialRecord], name: str) -> str:
    """Return the range of a hyperparameter's values in those of these trials that have it."""
    values = [trial.parameters[name] for trial in with_parameters(trials, name)]
    if not values:
        return "–"
    if not is_ordered(view.study.space[name]):
        return ", ".join(dict.fromkeys(map(brief, values)))
    low, high = min(values, key=float), max(values, key=float)
    return brief(low) if low == high else f"{brief(low)} to {brief(high)}"


def _origin(view: StudyView, name: str) -> str:
    return "fixed" if name in view.study.fixed else "by default"


def _share(shares: Shares, name: str) -> str:
    return f"{100 * shares[name]:.0f} %" if name in shares else "–"
