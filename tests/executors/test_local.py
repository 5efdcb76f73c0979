"""The `local` executor conforms to the interface, replaces dead workers and pins each worker to a core."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.cores import usable_cores
from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import JobLost
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.testing.executors import ExecutorConformance
from mnist_hpo.testing.listener import TIMEOUT_S, Listener

MakeJob = Callable[..., Job]


class TestLocalExecutor(ExecutorConformance):
    def start(self, n_workers: int) -> Executor:
        return LocalExecutor(n_workers)

    def kill_a_worker(self, executor: Executor) -> None:
        assert isinstance(executor, LocalExecutor)
        os.kill(executor.worker_pids()[0], signal.SIGKILL)

    @pytest.fixture
    def listener(self, executor: LocalExecutor) -> Listener:
        return Listener(executor)


def test_idle_workers_that_die_are_replaced(make_job: MakeJob, listener: Listener) -> None:
    for _ in range(3):
        (pid,) = listener.executor.worker_pids()
        listener.executor.submit(make_job(1, key=str(pid)), urgency=(0, 0))
        listener.until_ended(str(pid))
        os.kill(pid, signal.SIGKILL)
        listener.until(lambda _, pid=pid: listener.executor.worker_pids() != [pid])
    assert not any(isinstance(event, JobLost) for event in listener.events)


def test_workers_that_cannot_start_are_reported_and_no_job_is_lost(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    executor = LocalExecutor(2)
    try:
        executor.submit(make_job(1), urgency=(0, 0))
        listener = Listener(executor)
        with pytest.raises(UserError, match="the worker processes cannot start: exit code 1"):
            listener.until_ended()
        assert listener.events == []
    finally:
        executor.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinity")
def test_each_worker_is_pinned_to_a_core_of_its_own(make_job: MakeJob) -> None:
    cores = usable_cores()
    executor = LocalExecutor()
    listener = Listener(executor)
    try:
        assert executor.n_workers == len(cores)
        for index in range(len(cores)):
            executor.submit(make_job(1, key=str(index)), urgency=(0, 0))
        listener.until_ended(*map(str, range(len(cores))))
        # A worker pins itself when it starts. Some may still be starting, because the others can run all the jobs.
        deadline = time.monotonic() + TIMEOUT_S
        while pins := [pid for pid in executor.worker_pids() if len(os.sched_getaffinity(pid)) > 1]:
            assert time.monotonic() < deadline, f"not pinned: {pins}"
            time.sleep(0.05)
        assert sorted(min(os.sched_getaffinity(pid)) for pid in executor.worker_pids()) == cores
    finally:
        executor.close()


def test_a_worker_does_not_import_search_storage_or_tracking_packages() -> None:
    program = "import mnist_hpo.executors.worker as worker, sys; worker.load_most_used(); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in output.split()}
    assert "jax" in loaded
    assert not loaded & {"optuna", "mlflow", "tensorflow_datasets", "tensorflow", "pandas", "sklearn", "sqlalchemy"}
