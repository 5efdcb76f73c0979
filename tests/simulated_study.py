"""Run studies of any size without training: the real scheduler, sampler, pruner and storage, with simulated losses.

As a script, simulated_study.py FOLDER N_TRIALS writes the study `large` to FOLDER/mlruns/optuna.db.
"""

import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.messages import EpochDone, Event, JobDone
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.scheduler import Interrupted, Scheduler
from mnist_hpo.spec.provenance import fingerprint
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage

N_WORKERS = 2

SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1.0e-4, "high": 1.0e-1, "log": True},
    "batch_size": {"type": "categorical", "choices": [32, 64, 128, 256]},
    "depth": {"type": "int", "low": 1, "high": 3},
    "width": {"type": "categorical", "choices": [128, 256, 512]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.6},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
}


def simulated_loss(hyperparameters: dict[str, Any], epoch: int) -> float:
    """Return a loss that is lowest near a learning rate of 0.003 and a large width; rates above 0.05 diverge."""
    rate = float(hyperparameters.get("learning_rate", 1e-3))
    if rate > 0.05 and epoch >= 3:
        return math.nan
    noise = random.Random(repr((sorted(hyperparameters.items()), epoch))).random()
    floor = 0.05 + 0.02 * (math.log10(rate) + 2.5) ** 2 + 2 / int(hyperparameters.get("width", 128))
    return floor + 0.05 * float(hyperparameters.get("dropout", 0.0)) ** 2 + 0.4 / (epoch + 1) ** 1.5 + 0.005 * noise


class SimulatedWorkers:
    """An `Executor` that returns results at once, with timestamps as if two workers took one second per epoch."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._free_unix_s = [time.time()] * N_WORKERS

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        worker = self._free_unix_s.index(min(self._free_unix_s))
        for epoch in range(1, job.last_epoch + 1):
            loss = simulated_loss(dict(job.training.parameters), epoch)
            self._free_unix_s[worker] += 1.0
            seconds = {"train_s": 0.7, "evaluate_s": 0.125, "compile_s": 0.0, "total_s": 0.875}
            result = EpochResult(
                epoch, loss, loss, 1 / (1 + loss), **seconds, finished_unix_s=self._free_unix_s[worker], worker=worker
            )
            self._events.append(EpochDone(job.key, result, fingerprint()))
        self._events.append(JobDone(job.key, job.last_epoch))

    def cancel(self, key: str) -> None: ...

    def wait(self, timeout_s: float) -> Sequence[Event]:
        events, self._events = self._events, []
        return events

    def close(self) -> None: ...


class Journal:
    """An observer that records the order in which trials end."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def trial_changed(self, trial: TrialRecord) -> None:
        if trial.state != "running":
            self.ended.append(trial.number)


def study_of(**changes: Any) -> Study:
    fields = {
        "name": "large",
        "description": "simulated",
        "budget": {"n_trials": 40, "max_epochs": 9},
        "slots": 4,
        "sampler": {"name": "random"},
        "pruner": {"name": "hyperband", "min_resource": 3, "reduction_factor": 3},
        "space": SPACE,
    }
    return Study.model_validate(fields | changes)


def run_simulated(
    folder: Path, study: Study, journal: Journal | None = None, stop_after: int | None = None
) -> StudyView:
    """Run a study in a folder's default storage; stop it once `stop_after` trials have ended."""
    journal = journal or Journal()
    url = f"sqlite:///{folder}/mlruns/optuna.db"
    text = yaml.safe_dump(study.model_dump(mode="json", exclude_none=True))
    storage = StudyStorage.create(url, study, study_file=text, context={"dataset_digest": "00"})
    scheduler = Scheduler(
        study,
        storage,
        SimulatedWorkers(),
        data=DataRef(str(folder), "standard", 10),
        checkpoints=CheckpointStore(folder),
        observers=[journal],
        should_stop=lambda: stop_after is not None and len(journal.ended) >= stop_after,
    )
    try:
        scheduler.run()
    except Interrupted:
        assert stop_after is not None
    trials = tuple(storage.trials())
    storage.close()
    return StudyView(study, text, {"dataset_digest": "00"}, trials)


if __name__ == "__main__":
    run_simulated(Path(sys.argv[1]), study_of(budget={"n_trials": int(sys.argv[2]), "max_epochs": 27}, slots=8))
