"""What the platform costs beside training: the coordinator's work a trial, with an executor that returns at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.executors.job import DataRef, EpochDone, Event, Job, JobDone
from mnist_hpo.runner import Home, make_projection
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.study import Budget, FloatSpace, IntSpace, Method, Study
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.tracker import Tracker
from mnist_hpo.training.result import EpochResult

_N_EPOCHS = 3
_CATCH_UP_S = 3600.0


class InstantExecutor:
    """An `Executor` whose trainings take no time; the losses are a formula, since nobody looks at them."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        rate = float(job.training.parameters["learning_rate"])
        now = time.time()
        for epoch in range(1, job.last_epoch + 1):
            loss = rate + 1 / epoch
            self._events.append(EpochDone(job.key, EpochResult(epoch, loss, loss, 1 - loss, 0.0, 0.0, 0.0, 0.0, now)))
        self._events.append(JobDone(job.key))

    def cancel(self, key: str) -> None:
        """See `Executor.cancel`."""

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """See `Executor.wait`."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """See `Executor.close`."""


@dataclass(frozen=True)
class Overhead:
    """The coordinator's cost of a study."""

    sampler: str
    n_trials: int
    search_ms_per_trial: float
    """Ask, report, prune, tell and the durable record: what the search itself waits for."""
    tracking_ms_per_trial: float
    """What MLflow still has to write when the search is over: it never holds the search up."""
    last_tenth_ms_per_trial: float
    """Of the search, the last tenth of the trials alone: how the cost has grown."""

    def figures(self) -> dict[str, Any]:
        """As plain JSON."""
        return dict(vars(self))


class _Clock:
    """An observer that notes when each trial ended."""

    def __init__(self) -> None:
        self.ended_s: list[float] = []

    def trial_changed(self, trial: Any) -> None:
        if trial.state != "running":
            self.ended_s.append(time.perf_counter())


def measure_overhead(sampler: str, n_trials: int) -> Overhead:
    """Run a study of so many trials of three epochs whose trainings take no time, tracked in MLflow."""
    study = Study(
        name=f"overhead-{sampler}-{n_trials}",
        budget=Budget(n_trials=n_trials, max_epochs=_N_EPOCHS),
        slots=8,
        sampler=Method(name=sampler),
        pruner=Method(name="none"),
        space={
            "learning_rate": FloatSpace(type="float", low=1e-4, high=1e-1, log=True),
            "l2": FloatSpace(type="float", low=1e-7, high=1e-3, log=True),
            "dropout": FloatSpace(type="float", low=0.0, high=0.5),
            "width": IntSpace(type="int", low=16, high=256, step=16),
        },
    )
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-bench-") as folder:
        home = Home(f"sqlite:///{folder}/optuna.db", f"sqlite:///{folder}/mlflow.db", Path(folder))
        context = {"dataset_digest": DATASETS[study.dataset].digest}
        storage = StudyStorage.create(home.storage_url, study, study_file="", context=context)
        tracker = Tracker(lambda: make_projection(storage, study, home), [], lambda _message: None)
        clock = _Clock()
        start = time.perf_counter()
        Scheduler(
            study,
            storage,
            InstantExecutor(),
            data=DataRef(folder, "standard", 10),
            checkpoints=home.checkpoints(storage),
            observers=[tracker, clock],
        ).run()
        searched = time.perf_counter()
        tracker.close(lambda projection: projection.finish(storage.trials()), timeout_s=_CATCH_UP_S)
        tracked = time.perf_counter()
        storage.close()
    tenth = max(1, n_trials // 10)
    last_tenth_s = clock.ended_s[-1] - (clock.ended_s[-1 - tenth] if n_trials > tenth else start)
    return Overhead(
        sampler=sampler,
        n_trials=n_trials,
        search_ms_per_trial=1000 * (searched - start) / n_trials,
        tracking_ms_per_trial=1000 * (tracked - searched) / n_trials,
        last_tenth_ms_per_trial=1000 * last_tenth_s / tenth,
    )
