"""Workers that run out of memory or disk space, and workers whose coordinator is killed."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from mnist_hpo.executors.job import Job, encode_job
from mnist_hpo.executors.messages import Halted, JobDone
from mnist_hpo.testing.listener import TIMEOUT_S, Listener

MakeJob = Callable[..., Job]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process's memory so")
def test_a_job_that_runs_out_of_memory_is_lost_with_that_reason(make_job: MakeJob, tmp_path: Path) -> None:
    """The workers inherit a memory limit: what a small job needs, plus 100 MB. 8192² weights need more."""
    script = tmp_path / "coordinate.py"
    script.write_text(
        """\
import resource, sys
from pathlib import Path
from mnist_hpo.executors.job import decode_job
from mnist_hpo.executors.messages import JobDone, JobLost
from mnist_hpo.executors.backends.local import LocalExecutor

def run(job):
    events = []
    executor.submit(decode_job(job.encode()), urgency=(0, 0))
    while not any(isinstance(event, JobDone | JobLost) for event in events):
        events += executor.wait(1.0)
    return events

executor = LocalExecutor(1)
run(sys.argv[1])
(pid,) = executor.worker_pids()
pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
executor.close()
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 100_000_000,) * 2)
executor = LocalExecutor(1)
print(run(sys.argv[2]))
executor.close()
"""
    )
    jobs = [encode_job(job).decode() for job in (make_job(1), make_job(1, key="large", width=8192))]
    ended = subprocess.run(
        [sys.executable, script, *jobs], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ended.stdout.startswith("[JobLost(key='large', reason='3 workers died of it: out of memory: "), ended


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Generator[Path | None]:
    """A disk of 64 kB, or None if this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_halts_a_job_which_continues_once_there_is_space(
    make_job: MakeJob, listener: Listener, tiny_disk: Path | None, tmp_path: Path
) -> None:
    job = make_job(2)
    if tiny_disk is not None:
        Path(job.checkpoint).parent.symlink_to(tiny_disk)
        cause = "No space left on device"
    else:
        (pid,) = listener.executor.worker_pids()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        cause = "File too large"
    listener.executor.submit(job, urgency=(0, 0))
    listener.until_ended()
    halted = [event for event in listener.events if isinstance(event, Halted)]
    assert [event.reason for event in halted] == [f"{job.checkpoint}: cannot write a checkpoint: {cause}"]
    assert list(Path(job.checkpoint).parent.iterdir()) == [], "no incomplete file is left behind"

    if tiny_disk is not None:
        subprocess.run(["mount", "-o", "remount,size=10m", str(tiny_disk)], check=True)
    else:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    listener.executor.submit(job, urgency=(0, 0))
    listener.until(lambda events: any(isinstance(event, JobDone) for event in events))
    assert len(listener.results()) == 2
    assert Path(job.checkpoint).exists()


def cpu_seconds(pid: int) -> int:
    command = ["ps", "-o", "time=", "-p", str(pid)]
    hours, minutes, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_workers_end_when_their_coordinator_is_killed(make_job: MakeJob, tmp_path: Path) -> None:
    script = tmp_path / "coordinate.py"
    script.write_text(
        "import sys\n"
        "from mnist_hpo.executors.job import decode_job\n"
        "from mnist_hpo.executors.backends.local import LocalExecutor\n"
        "executor = LocalExecutor(2)\n"
        "print(*executor.worker_pids(), flush=True)\n"
        "executor.submit(decode_job(sys.argv[1].encode()), urgency=(0, 0))\n"
        "while True: executor.wait(1.0)\n"
    )
    # One worker runs an epoch of many minutes, the other one is idle.
    job = encode_job(make_job(1, width=8192, batch_size=1)).decode()
    coordinator = subprocess.Popen([sys.executable, script, job], stdout=subprocess.PIPE, text=True)
    assert coordinator.stdout is not None
    pids = [int(pid) for pid in coordinator.stdout.readline().split()]
    deadline = time.monotonic() + TIMEOUT_S
    while max(map(cpu_seconds, pids)) < 6:  # Starting and compiling takes less.
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(pids) == 2
    assert all(map(is_running, pids))
    coordinator.kill()
    coordinator.wait()
    coordinator.stdout.close()
    deadline = time.monotonic() + TIMEOUT_S
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.05)
