"""A study in MLflow: an experiment, a parent run, a nested run a trial; to write it again changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag

from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, TrialState, best_of, count_states
from mnist_hpo.tracking.client import connect, open_experiment, runs_with_tags
from mnist_hpo.training.hyperparameters import complete

_STATUS: Mapping[TrialState, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
_TAG_STATE: Mapping[TrialState, str] = {
    "running": "RUNNING",
    "complete": "COMPLETE",
    "pruned": "PRUNED",
    "failed": "FAILED",
}
INTERRUPTED = "SCHEDULED"
"""MLflow's word for a run that will go on: what was under way when a search was asked to stop."""
_LARGEST_BATCH = 900
"""MLflow takes at most 1,000 metrics at once."""


@dataclass
class _TrialRun:
    run_id: str
    status: str
    n_epochs: int = 0
    """Epochs that are known to be logged."""


@dataclass
class Projection:
    """Keeps MLflow equal to the storage.

    Every write can be repeated: metrics carry the time at which the storage says that they were made, and MLflow keeps
    one of equal ones; runs are found again by their tags.
    """

    tracking_uri: str
    study: Study
    study_file: str
    uid: str
    """Tells a study from an earlier one of the same name."""
    context: Mapping[str, str]
    _runs: dict[int, _TrialRun] = field(default_factory=dict[int, _TrialRun])

    def open(self) -> None:
        """Find what is there already, and make the parent run where it is not."""
        self.client = connect(self.tracking_uri)
        self.experiment_id = open_experiment(self.client, self.tracking_uri, self.study.name, self.study.description)
        parents = runs_with_tags(
            self.client, self.experiment_id, mnist_hpo__kind="study", mnist_hpo__study_uid=self.uid
        )
        self.parent_id = self._keep_one(parents) or self._create_parent()
        self.client.update_run(self.parent_id, status="RUNNING")
        self.client.log_text(self.parent_id, self.study_file, "study.yaml")
        self._runs = self._find_trial_runs()

    def push(self, trial: TrialRecord) -> None:
        """Bring one trial's run up to date."""
        run = self._runs.get(trial.number)
        if run is None:
            run = self._runs[trial.number] = self._create_trial_run(trial)
        if run.status != "RUNNING" and run.status != _STATUS[trial.state]:
            self.client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        self._log_epochs(run, trial)
        if trial.state != "running" and run.status == "RUNNING":
            self._finish_run(run, trial)

    def finish(self, trials: Iterable[TrialRecord], *, interrupted: bool) -> None:
        """Write the study's summary and end the parent run."""
        trials = list(trials)
        best = best_of(trials)
        counts = {f"n_{state}": n for state, n in count_states(trials).items()}
        # Dated by the storage, so that to write it again changes nothing.
        ended = max((_last_word(trial) for trial in trials), default=0.0)
        metrics = _metrics(ended, 0, **counts, best_valid_loss=best and best.value)
        tags = [RunTag("mnist_hpo.state", "interrupted" if interrupted else "complete")]
        if best is not None:
            tags.append(RunTag("mnist_hpo.best_trial", str(best.number)))
        self.client.log_batch(self.parent_id, metrics=metrics, tags=tags)
        if interrupted:
            for trial in trials:
                if trial.state == "running" and trial.number in self._runs:
                    self.client.update_run(self._runs[trial.number].run_id, status=INTERRUPTED)
        self.client.set_terminated(self.parent_id, INTERRUPTED if interrupted else "FINISHED", _ms(ended))

    def log_model(self, number: int, bundle: Path) -> None:
        """Put the best trial's model into its run."""
        self.client.log_artifacts(self._runs[number].run_id, str(bundle), "model")

    def _create_parent(self) -> str:
        study = self.study
        tags = {
            "mlflow.runName": study.name,
            "mlflow.note.content": study.description,
            "mlflow.source.git.commit": self.context.get("git_commit", ""),
            "mnist_hpo.kind": "study",
            "mnist_hpo.study_uid": self.uid,
            **{f"mnist_hpo.{name}": value for name, value in self.context.items()},
        }
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=study.name)
        described = {
            "seed": study.seed,
            "dataset": study.dataset,
            "split": study.split,
            "model": study.model,
            "objective": study.objective,
            "sampler": study.sampler.name,
            "pruner": study.pruner.name,
            "slots": study.slots,
            "max_epochs": study.budget.max_epochs,
            "study_sha256": study.sha256(),
        }
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in described.items()])
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
        parameters = complete(self.study.model, {**self.study.fixed, **trial.parameters})
        tags = {
            "mlflow.parentRunId": self.parent_id,
            "mnist_hpo.kind": "trial",
            "mnist_hpo.study_uid": self.uid,
            "trial.number": str(trial.number),
            "trial.state": "RUNNING",
        }
        run = self.client.create_run(
            self.experiment_id,
            start_time=_ms(trial.started_unix_s),
            tags=tags,
            run_name=run_name(trial.number, parameters),
        )
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in parameters.items()])
        return _TrialRun(run.info.run_id, "RUNNING")

    def _log_epochs(self, run: _TrialRun, trial: TrialRecord) -> None:
        if run.status != "RUNNING":
            return
        new = [trial.epochs[epoch] for epoch in sorted(trial.epochs)[run.n_epochs :]]
        metrics = [
            metric
            for result in new
            for metric in _metrics(
                result.finished_unix_s,
                result.epoch,
                train_loss=result.train_loss,
                valid_loss=result.valid_loss,
                valid_accuracy=result.valid_accuracy,
                epoch_s=result.total_s,
            )
        ]
        for start in range(0, len(metrics), _LARGEST_BATCH):
            self.client.log_batch(run.run_id, metrics=metrics[start : start + _LARGEST_BATCH])
        run.n_epochs += len(new)

    def _finish_run(self, run: _TrialRun, trial: TrialRecord) -> None:
        finished = trial.finished_unix_s or time.time()
        best = trial.best_epoch
        result = None if best is None else trial.epochs[best]
        metrics = _metrics(
            finished,
            0,
            seconds=sum(result.total_s for result in trial.epochs.values()),
            best_epoch=best,
            best_valid_loss=result and result.valid_loss,
            best_valid_accuracy=result and result.valid_accuracy,
        )
        tags = [RunTag("trial.state", _TAG_STATE[trial.state])]
        if trial.reason:
            tags.append(RunTag("trial.reason", trial.reason))
        self.client.log_batch(run.run_id, metrics=metrics, tags=tags)
        # Last: a run that has ended is known to be whole.
        run.status = _STATUS[trial.state]
        self.client.set_terminated(run.run_id, run.status, end_time=_ms(finished))


_SHORT = {"width": "w", "depth": "d", "batch_size": "bs", "learning_rate": "lr"}


def run_name(number: int, parameters: ParameterSet) -> str:
    """A name that says something in a list of runs: `#017 w256 d2 bs128 lr3.1e-03`."""
    described = [f"{short}{_brief(parameters[name])}" for name, short in _SHORT.items() if name in parameters]
    return " ".join([f"#{number:03d}", *described])


def _brief(value: ParameterValue) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def _last_word(trial: TrialRecord) -> float:
    """When a trial last told something."""
    told = [result.finished_unix_s for result in trial.epochs.values()]
    return max(trial.started_unix_s, trial.finished_unix_s or 0.0, *told)


def _metrics(unix_s: float, step: int, /, **values: float | None) -> list[Metric]:
    return [Metric(name, value, _ms(unix_s), step) for name, value in values.items() if value is not None]


def _ms(unix_s: float) -> int:
    return round(unix_s * 1000)
