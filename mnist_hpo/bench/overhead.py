"""Measure the platform's overhead: start-up times, and the coordinator's work per trial.

Run as a module, it measures one study. Its arguments are the sampler and the number of trials, and it prints JSON.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.messages import EpochDone, Event, JobDone
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.runner import Home, projected
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.search.policy import Next
from mnist_hpo.search.sampler_pruner import SamplerPruner
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import fingerprint
from mnist_hpo.spec.study import Budget, FloatSpace, IntSpace, Method, Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.tracker import Tracker

_N_STARTS = 5
_N_EPOCHS = 3
_LOCATION_VARIABLES = ("MNIST_HPO_STORAGE", "MLFLOW_TRACKING_URI")


_FIRST_STUDY = """
name: first
budget: {n_trials: 1, max_epochs: 1}
slots: 1
sampler: {name: random}
pruner: {name: none}
space:
  learning_rate: {type: float, low: 1.0e-3, high: 2.0e-3, log: true}
fixed: {depth: 1, width: 128, batch_size: 128}
"""
_COMMAND = (sys.executable, "-P", "-c", "from mnist_hpo.cli import main; main()")


def help_s() -> float:
    """Return the seconds that `mnist-hpo --help` takes, as the median of a few runs."""
    return statistics.median(_timed("--help") for _ in range(_N_STARTS))


def first_epoch_s() -> float:
    """Return the seconds from the start of `mnist-hpo run` to the result of the first epoch, with a warm compile cache.

    This is the median of a few studies of one epoch, each in its own folder.
    """
    return statistics.median([_first_epoch_s() for _ in range(1 + _N_STARTS)][1:])


def _first_epoch_s() -> float:
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-bench-") as folder:
        (Path(folder) / "first.yaml").write_text(_FIRST_STUDY)
        start = time.time()
        _timed("run", "first.yaml", folder=folder)
        storage = StudyStorage.load(f"sqlite:///{folder}/mlruns/optuna.db", "first")
        (trial,) = storage.trials()
        storage.close()
        return trial.epochs[1].finished_unix_s - start


def _timed(*arguments: str, folder: str | None = None) -> float:
    start = time.perf_counter()
    # Ignore the user's settings, so that the record is written to the folder.
    environment = {name: value for name, value in os.environ.items() if name not in _LOCATION_VARIABLES}
    subprocess.run([*_COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start


class InstantExecutor:
    """An `Executor` whose trainings take no time and return formula-based losses, to measure only the overhead."""

    n_workers = 1

    def __init__(self) -> None:
        self._events: list[Event] = []

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """See `Executor.submit`."""
        rate = float(job.training.parameters["learning_rate"])
        now = time.time()
        for epoch in range(1, job.last_epoch + 1):
            loss = rate + 1 / epoch
            result = EpochResult(epoch, loss, loss, 1 - loss, 0.0, 0.0, 0.0, 0.0, now)
            self._events.append(EpochDone(job.key, result, fingerprint()))
        self._events.append(JobDone(job.key, job.last_epoch))

    def cancel(self, key: str) -> None:
        """See `Executor.cancel`."""

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """See `Executor.wait`."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """See `Executor.close`."""


class _Clock:
    """An observer that records the coordinator's CPU time and peak memory at the end of each trial."""

    def __init__(self) -> None:
        self.cpu_s = [time.process_time()]
        self.peak_bytes = [_peak_bytes()]

    def trial_changed(self, trial: TrialRecord) -> None:
        """See `scheduler.Observer`."""
        if trial.has_ended:
            self.cpu_s.append(time.process_time())
            self.peak_bytes.append(_peak_bytes())


@contextmanager
def _timed_asks() -> Generator[list[float]]:
    """Yield a list that collects the CPU seconds of each ask within the context."""
    ask, seconds = SamplerPruner.next, list[float]()

    def timed(self: SamplerPruner) -> Next:
        start = time.thread_time()
        asked = ask(self)
        seconds.append(time.thread_time() - start)
        return asked

    SamplerPruner.next = timed
    try:
        yield seconds
    finally:
        SamplerPruner.next = ask


def measure_overhead(sampler: str, n_trials: int) -> dict[str, Any]:
    """Run a study whose trainings of three epochs take no time, tracked in MLflow.

    It runs in a separate process, since the peak memory of a process never decreases.

    Returns:
        The figures of one study, as `mnist-hpo bench overhead --json` prints them.

    Raises:
        UserError: MLflow does not contain the whole study.

    """
    command = [sys.executable, "-P", "-m", "mnist_hpo.bench.overhead", sampler, str(n_trials)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        raise UserError(process.stderr.strip().splitlines()[-1])
    return json.loads(process.stdout)


def _measure(sampler: str, n_trials: int) -> dict[str, Any]:
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
        info = dataset_info(study.dataset)
        context = info.context(info.digest)
        storage = StudyStorage.create(home.storage_url, study, study_file="", context=context)
        children_cpu_s, start_s = _children_cpu_s(), time.perf_counter()
        clock, warnings = _Clock(), list[str]()
        tracker = Tracker(projected(storage, study, home.tracking_uri), [], warnings.append)
        with _timed_asks() as asks_s:
            Scheduler(
                study,
                storage,
                InstantExecutor(),
                data=DataRef(folder, "standard", 10),
                checkpoints=home.checkpoints(storage),
                observers=[tracker, clock],
            ).run()
        search_wall_s = time.perf_counter() - start_s
        if missing := tracker.close(None):
            raise UserError(f"MLflow does not hold all of the study: {'; '.join([missing, *warnings])}")
        cpu_s, wall_s = time.process_time() - clock.cpu_s[0], time.perf_counter() - start_s
        storage.close()
    tenth = n_trials // 10
    first_s, last_s = clock.cpu_s[tenth] - clock.cpu_s[0], clock.cpu_s[-1] - clock.cpu_s[-1 - tenth]
    return {
        "sampler": sampler,
        "n_trials": n_trials,
        "cpu_ms_per_trial": 1000 * cpu_s / n_trials,
        "ask_cpu_ms_per_trial": 1000 * sum(asks_s) / n_trials,
        "first_tenth_cpu_ms_per_trial": 1000 * first_s / tenth,
        "last_tenth_cpu_ms_per_trial": 1000 * last_s / tenth,
        "growth": last_s / first_s,
        "mlflow_cpu_ms_per_trial": 1000 * (_children_cpu_s() - children_cpu_s) / n_trials,
        "search_wall_s": search_wall_s,
        "wall_s": wall_s,
        "grown_bytes": _peak_bytes() - clock.peak_bytes[tenth],
    }


def _children_cpu_s() -> float:
    """Return the CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> int:
    """Return the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
