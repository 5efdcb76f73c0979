"""A study in MLflow: an experiment, a parent run, a nested run a trial; to write it again changes nothing."""

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
"""MLflow's word for a run that may go on, here what was under way when a search was asked to stop."""
_LARGEST_BATCH = 900
"""MLflow takes at most 1,000 metrics at once."""
_N_TOLD = 3
"""Differences that are named one by one."""
_PLOTTED_TAG = "mnist_hpo.history_sha256"


@dataclass
class _TrialRun:
    run_id: str
    status: str
    has_parameters: bool = False
    """Whether they are known to be logged."""
    n_epochs: int = 0
    """Epochs that are known to be logged."""


@dataclass
class Projection:
    """Keeps MLflow equal to the storage.

    Every write can be repeated: metrics carry the time at which the storage says that they were made, and MLflow keeps
    one of equal ones; runs are found again by their tags.
    """

    subject: Subject
    _runs: dict[int, _TrialRun] = field(default_factory=dict[int, _TrialRun])
    _n_steps: int = 0
    """Steps of the parent's progress that are known to be logged."""
    _is_shown_running: bool = False
    """Whether the parent run is known to be RUNNING."""
    _parent_tags: dict[str, str] = field(default_factory=dict[str, str])
    """As they were last written, like those that follow."""
    _experiment_tags: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def study(self) -> Study:
        """What the file says."""
        return self.subject.study

    def open(self, trials: Sequence[TrialRecord]) -> None:
        """Find what is there already, and make the parent run where it is not.

        Args:
            trials: the study's so far: the parent run began with the first of them.

        """
        self.client = connect(self.subject.tracking_uri)
        first_tags = {**summary.experiment_tags(self.study, [], "running"), **saved_view(self.study)}
        self.experiment_id = open_experiment(self.client, self.subject.tracking_uri, self.study.name, first_tags)
        self._delete_replaced()
        parents = runs_with_tags(
            self.client, self.experiment_id, mnist_hpo__kind="study", mnist_hpo__study_uid=self.subject.uid
        )
        self.parent_id = self._keep_one(parents) or self._create_parent(trials)
        self._plotted = parents[0].data.tags.get(_PLOTTED_TAG) if parents else None
        self._n_steps = len(self.client.get_metric_history(self.parent_id, summary.LAST_OF_A_STEP)) if parents else 0
        self.client.log_text(self.parent_id, self.subject.study_file, "study.yaml")
        searched = dataset_input(self.study, self.subject.context["dataset_digest"], "search")
        self.client.log_inputs(self.parent_id, datasets=[searched])
        self._runs = self._find_trial_runs()

    def push(self, trial: TrialRecord) -> None:
        """Bring one trial's run up to date.

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
        """Bring the experiment's line and the parent run up to a search that is under way, with these trials so far."""
        if not self._is_shown_running:
            self.client.update_run(self.parent_id, status="RUNNING")
            self._is_shown_running = True
        self._show(trials, "running")

    def finish(self, trials: Sequence[TrialRecord]) -> None:
        """Write the study's summary and end the parent run: nobody runs the study any more.

        Where trials of its budget have not ended, it was interrupted, and may go on another day.
        """
        interrupted = self._is_interrupted(trials)
        self._show(trials, "interrupted" if interrupted else "complete")
        self.client.log_text(self.parent_id, summary.trials_csv(self.study, trials), "trials.csv")
        for trial in trials:
            if trial.state == "running" and trial.number in self._runs:
                self.client.update_run(self._runs[trial.number].run_id, status=INTERRUPTED)
        # Dated by the storage, so that to write it again changes nothing.
        ended = milliseconds(max((_last_word(trial) for trial in trials), default=0.0))
        self.client.set_terminated(self.parent_id, self._final_status(trials), ended)

    def log_plots(self, trials: Sequence[TrialRecord]) -> None:
        """Plot a complete study, unless the same history is plotted there already: to draw it takes seconds.

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
            except Exception as error:  # (plotly, matplotlib and scikit-learn raise what they like)
                raise UserError(f"the plots cannot be drawn: {first_line(error)}") from error
            self.client.log_artifacts(self.parent_id, folder)
        # Last: what it names is known to be there.
        self.client.set_tag(self.parent_id, _PLOTTED_TAG, history)
        self._plotted = history

    def missing(self, trials: Sequence[TrialRecord]) -> str | None:
        """Compare what MLflow holds of a study that has ended with its trials: one run each, in its final status.

        Returns:
            What is missing or wrong; None where nothing is.

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
        told = [difference for difference in wrong if difference]
        more = f" and {len(told) - _N_TOLD} more" if len(told) > _N_TOLD else ""
        return ", ".join(told[:_N_TOLD]) + more or None

    def log_model(self, number: int, bundle: Path) -> None:
        """Put the best trial's model into its run."""
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
        """Delete the runs of the study as it was before it was changed; none of their trials finished an epoch."""
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
            self._keep_one(same)
            runs[number] = _TrialRun(same[0].info.run_id, same[0].info.status)
        return runs

    def _keep_one(self, runs: list[Run]) -> str | None:
        """Of runs that say the same, keep the first: a slow server may have made one that we took for failed."""
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
        """Log what is new, in as few writes as there can be: each is a transaction."""
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
            # Last: a run that has ended is known to be whole.
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
    """How the runs that MLflow holds of something differ from one run in this status."""
    if len(runs) != 1:
        return f"{name} has {len(runs)} runs" if runs else f"{name} has no run"
    found = runs[0].info.status
    return None if found == status else f"the run of {name} is {found}, not {status}"


def _last_word(trial: TrialRecord) -> float:
    """When a trial last told something."""
    told = [result.finished_unix_s for result in trial.epochs.values()]
    return max(trial.started_unix_s, trial.finished_unix_s or 0.0, *told)
