"""An executor can be added as one new file: here, in a third-party package installed outside this repository."""

import importlib
import os
from pathlib import Path

import pytest
from command import Folder, assert_refused, make_folder

from mnist_hpo.executors.protocol import Executor
from mnist_hpo.testing.executors import ExecutorConformance

EXECUTOR = '''\
"""Runs each job in a process of its own."""

import sys
from multiprocessing.connection import Connection, wait

from mnist_hpo.executors.child_process import start_child
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.executors.job import Resources, decode_job, encode_job
from mnist_hpo.executors.job_queue import JobQueue
from mnist_hpo.executors.messages import EpochDone, Halted, JobDone, JobLost, decode_message, encode_message


class ProcessPerJob:
    def __init__(self, n_workers=None):
        self.n_workers = n_workers or 1
        self.queue, self.events, self.running = JobQueue(), [], {}

    def submit(self, job, *, urgency):
        if not job.resources.fits(Resources()):
            self.events.append(Halted(f"a job needs {job.resources}"))
            return
        self.queue.submit(job, urgency)
        self.start_jobs()

    def cancel(self, key):
        self.queue.cancel(key)
        for connection, (_, job) in list(self.running.items()):
            if job.key == key:
                self.end(connection)

    def wait(self, timeout_s):
        if not self.events:
            for connection in wait(list(self.running), timeout_s):
                self.receive(connection)
            self.start_jobs()
        events, self.events = self.events, []
        return events

    def close(self):
        for connection in list(self.running):
            self.end(connection)

    def start_jobs(self):
        while self.queue and len(self.running) < self.n_workers:
            job = self.queue.choose(lambda job: True, 1)
            self.queue.remove(job)
            child = start_child(__name__, environment=worker_environment())
            child.connection.send_bytes(encode_job(job))
            self.running[child.connection] = child, job

    def receive(self, connection):
        _, job = self.running[connection]
        try:
            message = decode_message(connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            message = self.queue.worker_died(job, self.end(connection))
        match message:
            case None:
                return
            case EpochDone(key, result):
                self.queue.epoch_done(key, result.epoch)
            case JobDone() | Halted():
                self.queue.job_done(job.key)
                self.end(connection)
        self.events.append(message)

    def end(self, connection):
        child, _ = self.running.pop(connection)
        child.process.kill()
        return child.reap()


def main(fd):
    from mnist_hpo.executors.run_job import JobRunner

    connection = Connection(fd)
    runner = JobRunner(lambda message: connection.send_bytes(encode_message(message)), 0)
    runner.run(decode_job(connection.recv_bytes()))
    connection.recv_bytes()  # Until the coordinator ends this process.


EXECUTOR = ProcessPerJob

if __name__ == "__main__":
    main(int(sys.argv[1]))
'''

STUDY = """\
name: small
budget: {n_trials: 2, max_epochs: 2}
slots: 2
sampler: random
space:
  width: {type: int, low: 8, high: 64}
fixed: {n_train: 1000, batch_size: 20, depth: 1, learning_rate: 0.005}
"""


def install(folder: Path, entry: str) -> dict[str, str]:
    """Install the package as pip does; return the environment in which Python finds it."""
    metadata = folder / "someones_executor-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-executor\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mnist_hpo.executors]\n{entry}\n")
    (folder / "someones_executor.py").write_text(EXECUTOR)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def folder_with_study(tmp_path: Path, name: str) -> Folder:
    folder = make_folder(tmp_path, name)
    (folder.path / "small.yaml").write_text(STUDY)
    return folder


@pytest.mark.slow
def test_a_study_has_the_same_history_on_an_executor_from_another_package(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "process_per_job = someones_executor:EXECUTOR")
    local, other = (folder_with_study(tmp_path, name) for name in ("local", "other"))
    expected = local.run().json()["history_sha256"]
    assert other.run("--executor", "process_per_job", **environment).json()["history_sha256"] == expected


def test_an_unknown_executor_is_rejected_before_anything_is_recorded(tmp_path: Path) -> None:
    folder = folder_with_study(tmp_path, "unknown")
    assert_refused(folder.call("run", "small.yaml", "--executor", "cloud"), "unknown executor 'cloud'; known are local")
    assert not (folder.path / "mlruns").exists()


def test_an_executor_that_cannot_be_loaded_is_rejected_with_the_reason(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "broken = someones_executor:MISSING")
    outcome = folder_with_study(tmp_path, "broken").call("run", "small.yaml", "--executor", "broken", **environment)
    assert_refused(outcome, "the executor broken (someones_executor:MISSING) cannot be loaded: ")


@pytest.mark.slow
class TestProcessPerJob(ExecutorConformance):
    @pytest.fixture(autouse=True)
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "site"
        environment = install(folder, "process_per_job = someones_executor:EXECUTOR")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])

    def start(self, n_workers: int) -> Executor:
        return importlib.import_module("someones_executor").EXECUTOR(n_workers)

    def kill_a_worker(self, executor: Executor) -> None:
        ((child, _), *_) = executor.running.values()  # type: ignore[attr-defined]
        child.process.kill()
