"""Write a study to MLflow: an experiment, a parent run and one nested run per trial. Every write is idempotent."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag

from mnist_hpo.analysis.study_figures import count_ended
from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import (
    TrialRecord,
    TrialState,
    best_of,
    history_sha256,
    is_machine_dependent,
)
from mnist_hpo.tracking import summary
from mnist_hpo.tracking.client import connect, open_experiment, runs_with_tags
from mnist_hpo.tracking.database import check_in_place, local_database
from mnist_hpo.tracking.datasets import dataset_input
from mnist_hpo.tracking.messages import Subject
from mnist_hpo.tracking.saved_view import saved_view
from mnist_hpo.tracking.trial_run import columns, curves, metrics_at, milliseconds, run_name
from mnist_hpo.trial_plan import all_parameters

_STATUS: Mapping[TrialState, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "paused": "SCHEDULED",
}
INTERRUPTED = "SCHEDULED"
"""MLflow's status of a run that may continue: here, of a study or trial that was running when the search stopped."""
_LARGEST_BATCH = 900
"""Metrics per request; MLflow accepts at most 1,000."""
_N_LISTED = 3
"""How many differences a message lists."""
_PLOTTED_TAG = "mnist_hpo.history_sha256"


@dataclass
class _TrialRun:
    run_id: str
    status: str
    has_parameters: bool = False
    """Whether the hyperparameters are known to be logged."""
    n_epochs: int = 0
    """Epochs that are known to be logged."""


@dataclass
class Projection:
    """Keeps MLflow in sync with the storage.

    Every write is idempotent: metrics carry the timestamps of the storage, and MLflow deduplicates equal metrics; runs
    are found by their tags.
    """

    subject: Subject
    _runs: dict[int, _TrialRun] = field(default_factory=dict[int, _TrialRun])
    _n_steps: int = 0
    """Steps of the parent run's progress metrics that are known to be logged."""
    _is_shown_running: bool = False
    """Whether the parent run is known to be RUNNING."""
    _parent_tags: dict[str, str] = field(default_factory=dict[str, str])
    """The tags last written to the parent run."""
    _experiment_tags: dict[str, str] = field(default_factory=dict[str, str])
    """The tags last written to the experiment."""

    @property
    def study(self) -> Study:
        """The study as its file describes it."""
        return self.subject.study

    def open(self, trials: Sequence[TrialRecord]) -> None:
        """Find the study's runs, and create the experiment and the parent run if they do not exist.

        Args:
            trials: the study's trials so far. The parent run starts when the first of them started.

        """
        self.client = connect(self.subject.tracking_uri)
        first_tags = {**summary.experiment_tags(self.study, [], "running"), **saved_view(self.study)}
        self.experiment_id = open_experiment(self.client, self.subject.tracking_uri, self.study.name, first_tags)
        self._delete_replaced()
        parents = runs_with_tags(
            self.client, self.experiment_id, mnist_hpo__kind="study", mnist_hpo__study_uid=self.subject.uid
        )
        self.parent_id = self._delete_duplicates(parents) or self._create_parent(trials)
        self._plotted = parents[0].data.tags.get(_PLOTTED_TAG) if parents else None
        self._n_steps = (
            len(self.client.get_metric_history(self.parent_id, summary.LAST_METRIC_OF_STEP)) if parents else 0
        )
        self.client.log_text(self.parent_id, self.subject.study_file, "study.yaml")
        searched = dataset_input(self.study, self.subject.context["dataset_digest"], "search")
        self.client.log_inputs(self.parent_id, datasets=[searched])
        self._runs = self._find_trial_runs()

    def push(self, trial: TrialRecord) -> None:
        """Create or update the run of one trial.

        Raises:
            DatabaseReplacedError: a local database was deleted or replaced since it was opened.

        """
        self._check_database()
        run = self._runs.get(trial.number)
        if run is None:
            run = self._runs[trial.number] = self._create_trial_run(trial)
        has_changed = run.status != _STATUS[trial.state] or run.n_epochs < len(trial.epochs)
        if run.status != "RUNNING" and has_changed:
            self.client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        if run.status == "RUNNING":
            self._update_trial_run(run, trial)

    def show_progress(self, trials: Sequence[TrialRecord]) -> None:
        """Update the experiment's tags and the parent run during a search."""
        if not self._is_shown_running:
            self.client.update_run(self.parent_id, status="RUNNING")
            self._is_shown_running = True
        self._show(trials, "running")

    def finish(self, trials: Sequence[TrialRecord]) -> None:
        """Write the study's summary and end the parent run, since no process runs the study any more.

        If trials of its budget have not ended, the study was interrupted and may be continued later.
        """
        interrupted = self._is_interrupted(trials)
        self._show(trials, "interrupted" if interrupted else "complete")
        self.client.log_text(self.parent_id, summary.trials_csv(self.study, trials), "trials.csv")
        for trial in trials:
            if trial.state == "running" and trial.number in self._runs:
                self.client.update_run(self._runs[trial.number].run_id, status=INTERRUPTED)
        # The time comes from the storage, so that writing it again changes nothing.
        ended = milliseconds(max((_latest_event_unix_s(trial) for trial in trials), default=0.0))
        self.client.set_terminated(self.parent_id, self._final_status(trials), ended)

    def log_plots(self, trials: Sequence[TrialRecord]) -> None:
        """Plot a complete study, unless its history is plotted already: drawing takes seconds.

        Raises:
            UserError: the plots cannot be drawn.

        """
        history = history_sha256(trials)
        if self._is_interrupted(trials) or self._plotted == history:
            return
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-plots-") as folder:
            try:
                from mnist_hpo.tracking.plots import write_plots

                write_plots(self.study, trials, Path(folder))
            except Exception as error:  # plotly, matplotlib and scikit-learn may raise anything.
                raise UserError(f"the plots cannot be drawn: {first_line(error)}") from error
            self.client.log_artifacts(self.parent_id, folder)
        # Last, so that the tag implies that the plots exist.
        self.client.set_tag(self.parent_id, _PLOTTED_TAG, history)
        self._plotted = history

    def missing(self, trials: Sequence[TrialRecord]) -> str | None:
        """Check that MLflow has one run for each trial of an ended study, each in its final status.

        Returns:
            What is missing or wrong; None if nothing is.

        """
        self._check_database()
        parents, by_number = list[Run](), dict[int, list[Run]]()
        for run in runs_with_tags(self.client, self.experiment_id, mnist_hpo__study_uid=self.subject.uid):
            kind = run.data.tags.get("mnist_hpo.kind")
            if kind == "study":
                parents.append(run)
            elif kind == "trial":
                by_number.setdefault(int(run.data.tags["trial.number"]), []).append(run)
        expected = {trial.number: _STATUS[trial.state] for trial in trials}
        expected |= {trial.number: INTERRUPTED for trial in trials if trial.state == "running"}
        wrong = [_difference(f"trial {n}", by_number.get(n, []), status) for n, status in expected.items()]
        wrong += [f"trial {number} is not in the storage" for number in by_number.keys() - expected.keys()]
        wrong.append(_difference("the study", parents, self._final_status(trials)))
        differences = [difference for difference in wrong if difference]
        more = f" and {len(differences) - _N_LISTED} more" if len(differences) > _N_LISTED else ""
        return ", ".join(differences[:_N_LISTED]) + more or None

    def log_model(self, number: int, bundle: Path) -> None:
        """Log the best trial's model to its run."""
        self.client.log_artifacts(self._runs[number].run_id, str(bundle), "model")

    def _show(self, trials: Sequence[TrialRecord], state: summary.SearchState) -> None:
        metrics = summary.progress(trials, n_known=self._n_steps)
        tags = {"mnist_hpo.state": state, "mlflow.note.content": summary.parent_note(self.study, trials, state)}
        if is_machine_dependent(trials):
            tags["mnist_hpo.machine_dependent"] = "true"
        if best := best_of(trials):
            tags["mnist_hpo.best_trial"] = str(best.number)
        if metrics or tags != self._parent_tags:
            self._log(self.parent_id, metrics=metrics, tags=tags)
            self._parent_tags = tags
            self._n_steps = max([self._n_steps, *(metric.step for metric in metrics)])
        for name, value in (summary.experiment_tags(self.study, trials, state) | saved_view(self.study)).items():
            if self._experiment_tags.get(name) != value:
                self.client.set_experiment_tag(self.experiment_id, name, value)
                self._experiment_tags[name] = value

    def _is_interrupted(self, trials: Sequence[TrialRecord]) -> bool:
        return count_ended(trials) < self.study.budget.n_trials

    def _final_status(self, trials: Sequence[TrialRecord]) -> str:
        return INTERRUPTED if self._is_interrupted(trials) else "FINISHED"

    def _check_database(self) -> None:
        if (path := local_database(self.subject.tracking_uri)) is not None:
            check_in_place(path)

    def _delete_replaced(self) -> None:
        """Delete the runs of earlier versions of the study. None of their trials finished an epoch."""
        for uid in self.subject.replaced_uids:
            for run in runs_with_tags(self.client, self.experiment_id, mnist_hpo__study_uid=uid):
                self.client.set_terminated(run.info.run_id, "KILLED")
                self.client.delete_run(run.info.run_id)

    def _create_parent(self, trials: Sequence[TrialRecord]) -> str:
        study = self.study
        tags = {
            "mlflow.source.git.commit": self.subject.context.get("git_commit", ""),
            "mnist_hpo.kind": "study",
            "mnist_hpo.study_uid": self.subject.uid,
            **{f"mnist_hpo.{name}": value for name, value in self.subject.context.items()},
        }
        started = milliseconds(min((trial.started_unix_s for trial in trials), default=time.time()))
        run = self.client.create_run(self.experiment_id, start_time=started, tags=tags, run_name=study.name)
        described = {
            "seed": study.seed,
            "dataset": study.dataset_name,
            "split": study.split,
            "model": study.model,
            "objective": study.objective,
            "sampler": study.sampler.name,
            "pruner": study.pruning,
            "slots": study.slots,
            "max_epochs": study.budget.max_epochs,
            "study_sha256": study.sha256(),
        }
        self._log(run.info.run_id, params=described)
        return run.info.run_id

    def _find_trial_runs(self) -> dict[int, _TrialRun]:
        found = runs_with_tags(
            self.client, self.experiment_id, mnist_hpo__kind="trial", mlflow__parentRunId=self.parent_id
        )
        by_number: dict[int, list[Run]] = {}
        for run in found:
            by_number.setdefault(int(run.data.tags["trial.number"]), []).append(run)
        runs: dict[int, _TrialRun] = {}
        for number, same in by_number.items():
            self._delete_duplicates(same)
            runs[number] = _TrialRun(same[0].info.run_id, same[0].info.status)
        return runs

    def _delete_duplicates(self, runs: list[Run]) -> str | None:
        """Delete all but the first run. A slow server may have created a run although the request seemed to fail."""
        for surplus in runs[1:]:
            self.client.delete_run(surplus.info.run_id)
        return runs[0].info.run_id if runs else None

    def _create_trial_run(self, trial: TrialRecord) -> _TrialRun:
        tags = {
            "mlflow.parentRunId": self.parent_id,
            "mnist_hpo.kind": "trial",
            "mnist_hpo.study_uid": self.subject.uid,
            "trial.number": str(trial.number),
            "trial.state": "RUNNING",
        }
        run = self.client.create_run(
            self.experiment_id,
            start_time=milliseconds(trial.started_unix_s),
            tags=tags,
            run_name=run_name(trial.number, all_parameters(self.study, trial.parameters)),
        )
        return _TrialRun(run.info.run_id, "RUNNING")

    def _update_trial_run(self, run: _TrialRun, trial: TrialRecord) -> None:
        """Log what is new in as few requests as possible: each is a transaction."""
        new = [trial.epochs[epoch] for epoch in sorted(trial.epochs)[run.n_epochs :]]
        metrics, tags = curves(new), dict[str, str]()
        ended_unix_s = None
        if trial.state == "paused":
            last = max((result.finished_unix_s for result in trial.epochs.values()), default=0.0)
            metrics += metrics_at(last, 0, **columns(self.study, trial))
            tags["trial.state"] = "PAUSED"
        elif trial.state != "running":
            ended_unix_s = trial.finished_unix_s or time.time()
            metrics += metrics_at(ended_unix_s, 0, **columns(self.study, trial))
            tags["trial.state"] = trial.state.upper()
            if trial.reason:
                tags["trial.reason"] = trial.reason
        parameters = {} if run.has_parameters else all_parameters(self.study, trial.parameters)
        self._log(run.run_id, metrics=metrics, tags=tags, params=parameters)
        run.has_parameters = True
        run.n_epochs += len(new)
        if trial.state == "paused":
            self.client.update_run(run.run_id, status=_STATUS["paused"])
            run.status = _STATUS["paused"]
        if ended_unix_s is not None:
            # Last, so that an ended run is known to be complete.
            run.status = _STATUS[trial.state]
            self.client.set_terminated(run.run_id, run.status, end_time=milliseconds(ended_unix_s))

    def _log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        chunks = [metrics[start : start + _LARGEST_BATCH] for start in range(0, len(metrics), _LARGEST_BATCH)] or [()]
        for chunk in chunks[:-1]:
            self.client.log_batch(run_id, metrics=chunk)
        self.client.log_batch(
            run_id,
            metrics=chunks[-1],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )


def _difference(name: str, runs: Sequence[Run], status: str) -> str | None:
    """Describe how the runs differ from a single run in this status; None if they do not."""
    if len(runs) != 1:
        return f"{name} has {len(runs)} runs" if runs else f"{name} has no run"
    found = runs[0].info.status
    return None if found == status else f"the run of {name} is {found}, not {status}"


def _latest_event_unix_s(trial: TrialRecord) -> float:
    """Return the time of a trial's latest event."""
    finished_s = [result.finished_unix_s for result in trial.epochs.values()]
    return max(trial.started_unix_s, trial.finished_unix_s or 0.0, *finished_s)
