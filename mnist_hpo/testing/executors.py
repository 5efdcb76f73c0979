"""The conformance tests of executors. Subclass `ExecutorConformance` in a test module and run pytest:

    class TestMyExecutor(ExecutorConformance):
        def start(self, n_workers: int) -> Executor:
            return MyExecutor(n_workers)

        def kill_a_worker(self, executor: Executor) -> None:
            os.kill(executor.any_pid(), signal.SIGKILL)

The tests train small MLPs on MNIST. The worker processes must inherit this process's environment, through which the
tests inject faults.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job, Resources
from mnist_hpo.executors.messages import EpochDone, Halted, JobDone, JobLost
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.provenance import fingerprint
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import history_sha256
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.testing.disturbed import DisturbedExecutor
from mnist_hpo.testing.listener import Listener, same
from mnist_hpo.trial_plan import training_job

MakeJob = Callable[..., Job]
StartFaulty = Callable[..., Listener]
RunStudy = Callable[[Executor], str]

_HYPERPARAMETERS: dict[str, ParameterValue] = {
    "n_train": 1000,
    "depth": 2,
    "width": 32,
    "batch_size": 100,
    "dropout": 0.2,
    "l2": 1e-5,
    "schedule": "one_cycle",
    "learning_rate": 0.003,
}
"""Hyperparameters that use every part of a training's state: dropout, both of Adam's moments, and a schedule."""
_STUDY = {
    "name": "conformance",
    "budget": {"n_trials": 5, "max_epochs": 4},
    "slots": 3,
    "sampler": {"name": "random"},
    "policy": {"name": "asha", "min_resource": 1, "reduction_factor": 2},
    "space": {
        "width": {"type": "categorical", "choices": [16, 32]},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    },
    "fixed": {"n_train": 1000, "batch_size": 100},
}
_N_LONG_EPOCHS = 30


class ExecutorConformance:
    """Tests of an executor. A subclass defines `start` and `kill_a_worker`."""

    def start(self, n_workers: int) -> Executor:
        """Return the executor under test, with `n_workers` workers."""
        raise NotImplementedError

    def kill_a_worker(self, executor: Executor) -> None:
        """Kill a worker process with SIGKILL; choose one that is running a job if there is one."""
        raise NotImplementedError

    @pytest.fixture
    def data(self) -> DataRef:
        """The standard split of MNIST."""
        return DataRef(str(prepare(dataset_info("mnist")).directory), "standard", 10)

    @pytest.fixture
    def listener(self) -> Generator[Listener]:
        """A listener on an executor with one worker."""
        executor = self.start(1)
        yield Listener(executor)
        executor.close()

    @pytest.fixture
    def make_job(self, data: DataRef, tmp_path: Path) -> MakeJob:
        """Return a function that makes a job: `make_job(last_epoch, key="0", max_epochs=10, **hyperparameters)`."""
        checkpoints = CheckpointStore(tmp_path / "checkpoints")

        def make(last_epoch: int, *, key: str = "0", max_epochs: int = 10, **hyperparameters: ParameterValue) -> Job:
            config = TrainingConfig("mlp", _HYPERPARAMETERS | hyperparameters, seed=2**40 + 5, max_epochs=max_epochs)
            return training_job(key, key, config, data, last_epoch, checkpoints)

        return make

    @pytest.fixture
    def start_faulty(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[StartFaulty]:
        """Return a function that starts one worker, which dies instead of reporting each of the given messages.

        See `worker_faults/sitecustomize`.
        """
        executors: list[Executor] = []

        def start(*messages: str) -> Listener:
            deaths = tmp_path / "deaths"
            deaths.mkdir()
            monkeypatch.setenv("MNIST_HPO_DEATHS", str(deaths))
            monkeypatch.setenv("MNIST_HPO_DIE_BEFORE", " ".join(messages))
            paths = [str(Path(__file__).with_name("worker_faults")), os.environ.get("PYTHONPATH", "")]
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
            executors.append(self.start(1))
            return Listener(executors[-1])

        yield start
        for executor in executors:
            executor.close()

    @pytest.fixture
    def run_study(self, data: DataRef, tmp_path: Path) -> RunStudy:
        """Return a function that runs a study on an executor and returns the hash of its history."""
        folders = iter(tmp_path / f"study-{index}" for index in range(10))

        def run(executor: Executor) -> str:
            folder = next(folders)
            folder.mkdir()
            study = Study.model_validate(_STUDY)
            storage = StudyStorage.create(f"sqlite:///{folder}/optuna.db", study, study_file="", context={})
            Scheduler(study, storage, executor, data=data, checkpoints=CheckpointStore(folder)).run()
            trials = storage.trials()
            storage.close()
            assert any(trial.state == "complete" for trial in trials)
            return history_sha256(trials)

        return run

    def test_a_job_reports_each_epoch_and_its_end(self, make_job: MakeJob, listener: Listener) -> None:
        job = make_job(3)
        listener.executor.submit(job, urgency=(0, 0))
        listener.until_ended()
        assert [result.epoch for result in listener.results()] == [1, 2, 3]
        assert [event for event in listener.events if isinstance(event, JobDone)] == [JobDone("0", 3)]
        assert Path(job.checkpoint).is_file()

    def test_results_contain_the_fingerprint_of_the_worker(self, make_job: MakeJob, listener: Listener) -> None:
        listener.executor.submit(make_job(2), urgency=(0, 0))
        listener.until_ended()
        fingerprints = [event.fingerprint for event in listener.events if isinstance(event, EpochDone)]
        assert fingerprints == [fingerprint()] * 2

    def test_jobs_that_continue_a_training_equal_one_long_job(self, make_job: MakeJob, listener: Listener) -> None:
        uninterrupted = make_job(6, key="uninterrupted")
        listener.executor.submit(uninterrupted, urgency=(0, 0))
        listener.until_ended("uninterrupted")
        for last_epoch in range(1, 7):
            listener.executor.submit(make_job(last_epoch, key="continued"), urgency=(0, 0))
            listener.until(lambda events, last=last_epoch: JobDone("continued", last) in events)
        assert same(listener.results("continued"), listener.results("uninterrupted"))
        assert _tensors(make_job(6, key="continued")) == _tensors(uninterrupted)

    def test_a_job_shorter_than_its_checkpoint_reports_only_its_own_epochs(
        self, make_job: MakeJob, listener: Listener
    ) -> None:
        listener.executor.submit(make_job(5), urgency=(0, 0))
        listener.until_ended()
        results, state = listener.results(), _tensors(make_job(5))
        listener.events.clear()
        listener.executor.submit(make_job(3), urgency=(0, 0))
        listener.until_ended()
        assert same(listener.results(), results[:3])
        assert JobDone("0", 3) in listener.events
        assert _tensors(make_job(5)) == state

    def test_a_job_ends_when_its_training_diverges(self, make_job: MakeJob, listener: Listener) -> None:
        job = make_job(10, optimizer="sgd", learning_rate=1e6, schedule="constant")
        listener.executor.submit(job, urgency=(0, 0))
        listener.until_ended()
        results = listener.results()
        assert [result.diverged for result in results] == [False] * (len(results) - 1) + [True]
        assert JobDone("0", len(results)) in listener.events
        assert len(results) < 10

    def test_several_workers_compute_the_same_results_as_one(self, make_job: MakeJob, listener: Listener) -> None:
        jobs = [make_job(2, key=str(rate), dropout=rate) for rate in (0.1, 0.2, 0.3, 0.4)]
        one = run_jobs(listener.executor, jobs)
        executor = self.start(2)
        assert executor.n_workers == 2
        try:
            # Other keys and checkpoints, so that the jobs are computed again.
            again = [make_job(2, key=f"again {job.key}", dropout=float(job.key)) for job in jobs]
            two = run_jobs(executor, again)
        finally:
            executor.close()
        assert all(same(one[job.key], two[f"again {job.key}"]) for job in jobs)

    def test_the_most_urgent_waiting_job_starts_first(self, make_job: MakeJob, listener: Listener) -> None:
        listener.executor.submit(make_job(1, key="running"), urgency=(0, 0))
        for key, urgency in (("c", (7, 1)), ("a", (2, 9)), ("b", (7, 0))):
            listener.executor.submit(make_job(1, key=key), urgency=urgency)
        listener.until_ended("running", "a", "b", "c")
        done = [event.key for event in listener.events if isinstance(event, JobDone)]
        assert [key for key in done if key != "running"] == ["a", "b", "c"]

    def test_a_cancelled_waiting_job_does_not_run(self, make_job: MakeJob, listener: Listener) -> None:
        for key in ("running", "cancelled", "waiting"):
            listener.executor.submit(make_job(1, key=key), urgency=(0, 0))
        listener.executor.cancel("cancelled")
        listener.executor.cancel("never submitted")
        listener.until_ended("running", "waiting")
        assert listener.results("cancelled") == []

    def test_the_end_of_a_cancelled_job_does_not_end_the_next_one(self, make_job: MakeJob, listener: Listener) -> None:
        listener.executor.submit(make_job(2), urgency=(0, 0))
        listener.until(lambda _: len(listener.results()) == 2)
        listener.executor.cancel("0")
        listener.events.clear()
        listener.executor.submit(make_job(4), urgency=(0, 0))
        listener.until_ended()
        ends = [event for event in listener.events if isinstance(event, JobDone)]
        # The first job may have reported its end before it was cancelled.
        assert ends[-1] == JobDone("0", 4) or listener.until(lambda events: JobDone("0", 4) in events)
        assert [result.epoch for result in listener.results()] == [1, 2, 3, 4]

    def test_a_job_that_needs_missing_resources_halts(self, make_job: MakeJob, listener: Listener) -> None:
        job = dataclasses.replace(make_job(1), resources=Resources(n_cores=1, n_gpus=1000))
        listener.executor.submit(job, urgency=(0, 0))
        events = listener.until_ended()
        assert [event for event in events if isinstance(event, Halted) and "1000 GPUs" in event.reason]

    def test_a_job_whose_worker_is_killed_has_the_same_results(self, make_job: MakeJob, listener: Listener) -> None:
        undisturbed, disturbed = (
            make_job(_N_LONG_EPOCHS, key=key, max_epochs=_N_LONG_EPOCHS, n_train=20_000)
            for key in ("undisturbed", "killed")
        )
        listener.executor.submit(undisturbed, urgency=(0, 0))
        listener.until_ended("undisturbed")
        listener.executor.submit(disturbed, urgency=(0, 0))
        listener.until(lambda _: len(listener.results("killed")) > 0)
        self.kill_a_worker(listener.executor)
        listener.until_ended("killed")
        assert same(listener.results("killed"), listener.results("undisturbed"))
        assert _tensors(disturbed) == _tensors(undisturbed)
        assert not any(isinstance(event, JobLost) for event in listener.events)

    def test_no_job_is_lost_if_a_worker_dies_before_it_reports_the_end(
        self, make_job: MakeJob, start_faulty: StartFaulty
    ) -> None:
        listener = start_faulty("JobDone")
        listener.executor.submit(make_job(1), urgency=(0, 0))
        listener.until(lambda _: len(listener.results()) == 1)
        # The scheduler also submits a trial's next job as soon as it has the last result of the previous one.
        listener.executor.submit(make_job(2), urgency=(1, 0))
        listener.until(lambda events: JobDone("0", 2) in events)
        assert [result.epoch for result in listener.results()] == [1, 2]

    def test_a_job_that_kills_workers_without_progress_is_lost_but_other_jobs_run(
        self, make_job: MakeJob, start_faulty: StartFaulty
    ) -> None:
        listener = start_faulty(*["EpochDone:1"] * 3)
        listener.executor.submit(make_job(2), urgency=(0, 0))
        listener.executor.submit(make_job(2, key="next"), urgency=(1, 1))
        listener.until_ended("0", "next")
        assert [event.key for event in listener.events if isinstance(event, JobLost)] == ["0"]
        assert len(listener.results("next")) == 2

    def test_a_job_that_makes_progress_between_worker_deaths_is_not_lost(
        self, make_job: MakeJob, start_faulty: StartFaulty
    ) -> None:
        listener = start_faulty(*(f"EpochDone:{epoch}" for epoch in range(2, 6)))
        listener.executor.submit(make_job(5), urgency=(0, 0))
        listener.until_ended()
        assert [result.epoch for result in listener.results()] == [1, 2, 3, 4, 5]
        assert not any(isinstance(event, JobLost) for event in listener.events)

    def test_a_study_has_the_same_history_if_events_are_disturbed(self, run_study: RunStudy) -> None:
        executor = self.start(1)
        undisturbed = run_study(executor)
        executor.close()
        for seed in range(2):
            executor = self.start(2)
            try:
                assert run_study(DisturbedExecutor(executor, seed)) == undisturbed
            finally:
                executor.close()

    def test_a_study_has_the_same_history_if_workers_die(
        self, run_study: RunStudy, listener: Listener, start_faulty: StartFaulty
    ) -> None:
        undisturbed = run_study(listener.executor)
        faulty = start_faulty("JobDone", "EpochDone:2", "EpochDone:3", "JobDone")
        assert run_study(faulty.executor) == undisturbed

    def test_waiting_without_jobs_returns_no_events(self, listener: Listener) -> None:
        assert list(listener.executor.wait(0.1)) == []

    def test_closing_ends_all_processes(self, make_job: MakeJob) -> None:
        before = _children()
        executor = self.start(2)
        executor.submit(make_job(100_000, max_epochs=100_000), urgency=(0, 0))
        Listener(executor).until(lambda events: len(events) > 0)
        executor.close()
        executor.close()
        assert [process for process in _children() if process not in before] == []


def _children() -> Sequence[psutil.Process]:
    processes = psutil.Process().children(recursive=True)
    return [process for process in processes if process.status() != psutil.STATUS_ZOMBIE]


def _tensors(job: Job) -> dict[str, bytes]:
    """Return the tensors of a job's checkpoint: weights, Adam's moments, step and the kept epoch's weights."""
    with safe_open(job.checkpoint, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.offset_keys()}
