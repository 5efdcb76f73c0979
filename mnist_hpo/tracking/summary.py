"""What MLflow shows of a study as a whole: the experiment's tags; the parent run's description, table and progress.

Pure functions of the study and its trials, so that writing the results again changes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from mlflow.entities import Metric

from mnist_hpo.analysis.progress import steps
from mnist_hpo.analysis.study_figures import count_ended
from mnist_hpo.analysis.trial_figures import objective_value, ranked
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, best_of, count_states, machine_dependence
from mnist_hpo.tracking.trial_run import columns, metrics_at, run_name
from mnist_hpo.trial_plan import all_parameters

SearchState = Literal["running", "interrupted", "complete"]
LAST_METRIC_OF_STEP = "n_complete"
"""The progress metric that is written last: a step that has it is complete."""
_N_TOP = 5


def experiment_tags(study: Study, trials: Sequence[TrialRecord], state: SearchState) -> dict[str, str]:
    """Return the tags that the list of experiments shows for a study."""
    best = best_of(trials)
    tags = {"state": state, "trials": f"{count_ended(trials)} of {study.budget.n_trials}"}
    if best is None:
        return {**tags, "mlflow.note.content": study.description}
    # The list shows only the first few words, so the best value comes before the description.
    metric, value = study.objectives[0].metric, f"{objective_value(best):.5f}"
    note = " · ".join(filter(None, [f"{metric} {value}", study.description]))
    return {**tags, f"best_{metric}": value, "mlflow.note.content": note}


def parent_note(study: Study, trials: Sequence[TrialRecord], state: SearchState) -> str:
    """Return the parent run's description in Markdown: the study's description, progress and best trials."""
    counts = ", ".join(f"{n} {kind}" for kind, n in count_states(trials).items() if n)
    progress = f"**{state}**: {count_ended(trials)} of {study.budget.n_trials} trials ended ({counts or 'none yet'})"
    if best := best_of(trials):
        name = run_name(best.number, all_parameters(study, best.parameters))
        progress += f", best {study.objectives[0].metric} **{objective_value(best):.5f}**: {name}"
    dependence = machine_dependence(trials)
    files = "Artifacts: `study.yaml` (the study file); after the search, `trials.csv`, `plots.html` and `plots.png`."
    return "\n\n".join(filter(None, [study.description, progress, dependence, _top_table(study, trials), files]))


def trials_csv(study: Study, trials: Sequence[TrialRecord]) -> str:
    """Return all trials as CSV: number, state, reason, the columns of their runs, the searched hyperparameters."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header_written = False
    for trial in trials:
        row = {
            "number": trial.number,
            "state": trial.state,
            "reason": trial.reason,
            **columns(study, trial),
            **{name: trial.parameters.get(name) for name in study.space},
        }
        if not header_written:
            writer.writerow(row)
            header_written = True
        writer.writerow(row.values())
    return text.getvalue()


def progress(trials: Sequence[TrialRecord], *, n_known: int) -> list[Metric]:
    """Return the progress metrics: one step per ended trial, in the order in which the trials ended.

    Args:
        trials: all trials.
        n_known: how many of the first steps to leave out.

    """
    return [
        metric
        for number, step in enumerate(steps(trials), start=1)
        if number > n_known
        for metric in metrics_at(
            step.ended_unix_s,
            number,
            best_valid_loss=step.best_value,
            n_pruned=step.n_pruned,
            n_failed=step.n_failed,
            n_complete=step.n_complete,
        )
    ]


def _top_table(study: Study, trials: Sequence[TrialRecord]) -> str:
    top = ranked(trials)[:_N_TOP]
    if not top:
        return ""
    rows = [["trial", "valid_loss", "valid_accuracy", "epoch", *study.space], ["---:"] * (4 + len(study.space))]
    for trial in top:
        at = columns(study, trial)
        measures = [f"{at['best_valid_loss']:.5f}", f"{100 * (at['best_valid_accuracy'] or 0):.2f} %"]
        shown = [_brief(trial.parameters.get(name)) for name in study.space]
        rows.append([f"#{trial.number:03d}", *measures, str(at["best_epoch"]), *shown])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _brief(value: ParameterValue | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
