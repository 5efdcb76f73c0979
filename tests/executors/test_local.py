"""Real worker processes: whatever happens to them, a job's results are the same to the last bit."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from listening import LONG_S, Listener, same
from safetensors import safe_open

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.job import DataRef, Halted, Job, JobDone, JobLost, encode_job
from mnist_hpo.executors.local import LocalExecutor, usable_cores
from mnist_hpo.executors.single import run_jobs
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.training import Training
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.study_storage import StudyStorage

MakeJob = Callable[..., Job]


def checkpoint_bytes(job: Job) -> dict[str, bytes]:
    """Weights, moments, step and best weights."""
    with safe_open(job.checkpoint, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.slow
def test_ten_resumed_pieces_equal_ten_epochs_in_one_go(make_job: MakeJob, listener: Listener) -> None:
    in_one_go = make_job(10, key="whole")
    listener.executor.submit(in_one_go, urgency=(0, 0))
    listener.until_ended("whole")
    results = listener.results("whole")
    assert [result.epoch for result in results] == list(range(1, 11))
    for last_epoch in range(1, 11):
        piece = make_job(last_epoch, key="pieces")
        executor = LocalExecutor(1)
        fresh = Listener(executor)
        try:
            executor.submit(piece, urgency=(0, 0))
            fresh.until_ended("pieces")
        finally:
            executor.close()
        assert same(fresh.results("pieces"), results[:last_epoch])
    assert checkpoint_bytes(piece) == checkpoint_bytes(in_one_go)
    names = "".join(checkpoint_bytes(piece))
    assert all(part in names for part in ("parameters", "optimizer_state", "step", "best"))


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    changed = {}
    for place in (0.3, 0.5, 0.7, 0.9):  # in best weights, moments, weights
        at = int(place * len(content)) // 4 * 4 + 2
        changed[f"one bit changed at {place}"] = content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]
    return changed | {
        "empty": b"",
        "cut off in the header": content[:20],
        "cut off in the weights": content[:middle],
        "not a checkpoint at all": b"\x00" * 100,
    }


def test_a_damaged_foreign_or_lost_checkpoint_is_computed_again(
    make_job: MakeJob, listener: Listener, tmp_path: Path
) -> None:
    path = Path(make_job(3).checkpoint)
    listener.executor.submit(make_job(3), urgency=(0, 0))
    listener.until_ended()
    kept = path.read_bytes()
    listener.executor.submit(make_job(3, key="foreign", dropout=0.3), urgency=(0, 0))
    listener.until_ended("foreign")
    foreign = Path(make_job(3, key="foreign").checkpoint).read_bytes()

    listener.events.clear()
    listener.executor.submit(make_job(6), urgency=(0, 0))
    listener.until_ended()
    results, state = listener.results(), checkpoint_bytes(make_job(6))
    assert len(results) == 6

    for what, content in damaged(kept).items() | {("another training's", foreign), ("lost", None)}:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        listener.events.clear()
        listener.executor.submit(make_job(6), urgency=(0, 0))
        listener.until_ended()
        assert same(listener.results(), results), what
        assert checkpoint_bytes(make_job(6)) == state, what


def test_a_checkpoint_beyond_the_job_answers_without_training(make_job: MakeJob, listener: Listener) -> None:
    listener.executor.submit(make_job(5), urgency=(0, 0))
    listener.until_ended()
    results, state = listener.results(), checkpoint_bytes(make_job(5))
    listener.events.clear()
    listener.executor.submit(make_job(3), urgency=(0, 0))
    listener.until_ended()
    assert same(listener.results(), results[:3])
    assert checkpoint_bytes(make_job(5)) == state


def test_a_job_whose_worker_is_killed_comes_out_the_same(make_job: MakeJob, listener: Listener) -> None:
    undisturbed = make_job(30, key="undisturbed", max_epochs=30)
    listener.executor.submit(undisturbed, urgency=(0, 0))
    listener.until_ended("undisturbed")
    disturbed = make_job(30, max_epochs=30)
    listener.executor.submit(disturbed, urgency=(0, 0))
    listener.until(lambda _: len(listener.results()) > 0)
    (pid,) = listener.executor.worker_pids()
    os.kill(pid, signal.SIGKILL)
    listener.until_ended()
    assert same(listener.results(), listener.results("undisturbed"))
    assert checkpoint_bytes(disturbed) == checkpoint_bytes(undisturbed)
    assert not any(isinstance(event, JobLost) for event in listener.events)


DyingExecutor = Callable[..., LocalExecutor]


@pytest.fixture
def dying_executor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[DyingExecutor]:
    """An executor whose workers die in place of sending the messages named, once each time: see dying/sitecustomize."""
    executors: list[LocalExecutor] = []

    def start(*messages: str) -> LocalExecutor:
        deaths = tmp_path / "deaths"
        deaths.mkdir()
        monkeypatch.setenv("DEATHS", str(deaths))
        monkeypatch.setenv("DIE_BEFORE", " ".join(messages))
        paths = [str(Path(__file__).with_name("dying")), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        executors.append(LocalExecutor(1))
        return executors[-1]

    yield start
    for executor in executors:
        executor.close()


def test_a_job_that_takes_three_workers_down_is_lost_and_the_next_one_runs(
    make_job: MakeJob, dying_executor: DyingExecutor
) -> None:
    executor = dying_executor(*["EpochDone:1"] * 3)
    listener = Listener(executor)
    executor.submit(make_job(2), urgency=(0, 0))
    executor.submit(make_job(2, key="next"), urgency=(1, 1))
    listener.until_ended("0", "next")
    lost = [event for event in listener.events if isinstance(event, JobLost)]
    assert [event.key for event in lost] == ["0"]
    assert lost[0].reason == "3 workers died of it: killed by SIGKILL (the system does so when memory runs out)"
    assert len(listener.results("next")) == 2


def test_a_worker_that_dies_between_its_last_result_and_the_jobs_end_loses_no_later_job(
    make_job: MakeJob, dying_executor: DyingExecutor
) -> None:
    executor = dying_executor("JobDone")
    listener = Listener(executor)
    executor.submit(make_job(1), urgency=(0, 0))
    listener.until(lambda _: len(listener.results()) == 1)
    # As the scheduler does on the job's last result. The worker has not reported the job's end, and never will.
    executor.submit(make_job(2), urgency=(1, 0))
    listener.until_ended()
    assert [result.epoch for result in listener.results()] == [1, 2]


def test_a_search_survives_a_worker_that_dies_between_a_result_and_the_jobs_end(
    few_digits: Path, dying_executor: DyingExecutor, tmp_path: Path
) -> None:
    study = Study.model_validate(
        {
            "name": "dying",
            "budget": {"n_trials": 1, "max_epochs": 2},
            "pruner": {"name": "successive_halving"},
            "space": {"width": {"type": "categorical", "choices": [16, 32]}},
        }
    )
    storage = StudyStorage.create(f"sqlite:///{tmp_path}/optuna.db", study, study_file="", context={})
    data = DataRef(str(few_digits), "standard", 10)
    executor = dying_executor("JobDone")
    deadline = time.monotonic() + LONG_S
    # The pruner may decide after epoch 1, so the trial is two jobs.
    Scheduler(
        study,
        storage,
        executor,
        data=data,
        checkpoints=tmp_path,
        should_stop=lambda: time.monotonic() > deadline,
    ).run()
    (trial,) = storage.trials()
    assert (trial.state, len(trial.epochs)) == ("complete", 2)


def test_a_job_that_finishes_an_epoch_between_its_workers_deaths_is_not_lost(
    make_job: MakeJob, listener: Listener, dying_executor: DyingExecutor
) -> None:
    listener.executor.submit(make_job(6, key="undisturbed"), urgency=(0, 0))
    listener.until_ended("undisturbed")
    executor = dying_executor(*(f"EpochDone:{epoch}" for epoch in range(2, 7)))
    disturbed = Listener(executor)
    executor.submit(make_job(6), urgency=(0, 0))
    disturbed.until_ended()
    assert same(disturbed.results(), listener.results("undisturbed"))


def test_the_end_of_a_cancelled_job_is_not_taken_for_the_end_of_the_next_one(
    make_job: MakeJob, listener: Listener
) -> None:
    listener.executor.submit(make_job(3), urgency=(0, 0))
    # An executor reports one message of a worker at a time: the job's end is still unread.
    listener.until(lambda _: len(listener.results()) == 3)
    listener.executor.cancel("0")
    results = run_jobs(listener.executor, [make_job(3)])
    assert same(results["0"], listener.results())


def test_idle_workers_that_die_are_replaced(make_job: MakeJob, listener: Listener) -> None:
    for _ in range(3):
        (pid,) = listener.executor.worker_pids()
        listener.executor.submit(make_job(1, key=str(pid)), urgency=(0, 0))
        listener.until_ended(str(pid))
        os.kill(pid, signal.SIGKILL)
        listener.until(lambda _, pid=pid: listener.executor.worker_pids() != [pid])
    assert not any(isinstance(event, JobLost) for event in listener.events)


def test_workers_that_cannot_start_are_told_as_such_and_no_job_is_blamed(
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process's memory so")
def test_running_out_of_memory_is_named(make_job: MakeJob, tmp_path: Path) -> None:
    """In a process of its own, whose workers inherit a limit: what a small job takes, and 100 MB. 8192² weights take
    more."""
    script = tmp_path / "coordinate.py"
    script.write_text(
        """\
import resource, sys
from pathlib import Path
from mnist_hpo.executors.job import JobDone, JobLost, decode_job
from mnist_hpo.executors.local import LocalExecutor

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
    ended = subprocess.run([sys.executable, script, *jobs], capture_output=True, text=True, timeout=LONG_S, check=False)
    assert ended.stdout.startswith("[JobLost(key='large', reason='3 workers died of it: out of memory: "), ended


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Generator[Path | None]:
    """A disk of 64 kB, or None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_halts_and_when_there_is_room_the_job_goes_on(
    make_job: MakeJob, listener: Listener, tiny_disk: Path | None, tmp_path: Path
) -> None:
    job = make_job(2)
    if tiny_disk is not None:
        Path(job.checkpoint).parent.symlink_to(tiny_disk)
        why = "No space left on device"
    else:
        (pid,) = listener.executor.worker_pids()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        why = "File too large"
    listener.executor.submit(job, urgency=(0, 0))
    listener.until_ended()
    halted = [event for event in listener.events if isinstance(event, Halted)]
    assert [event.reason for event in halted] == [f"{job.checkpoint}: cannot write a checkpoint: {why}"]
    assert list(Path(job.checkpoint).parent.iterdir()) == [], "nothing half-written is left behind"

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


def test_workers_end_when_their_coordinator_is_killed(make_job: MakeJob, tmp_path: Path) -> None:
    script = tmp_path / "coordinate.py"
    script.write_text(
        "import sys\n"
        "from mnist_hpo.executors.job import decode_job\n"
        "from mnist_hpo.executors.local import LocalExecutor\n"
        "executor = LocalExecutor(2)\n"
        "print(*executor.worker_pids(), flush=True)\n"
        "executor.submit(decode_job(sys.argv[1].encode()), urgency=(0, 0))\n"
        "while True: executor.wait(1.0)\n"
    )
    # One worker is in the middle of an epoch of many minutes, the other one is idle.
    job = encode_job(make_job(1, width=8192, batch_size=1)).decode()
    coordinator = subprocess.Popen([sys.executable, script, job], stdout=subprocess.PIPE, text=True)
    assert coordinator.stdout is not None
    pids = [int(pid) for pid in coordinator.stdout.readline().split()]
    deadline = time.monotonic() + LONG_S
    while max(map(cpu_seconds, pids)) < 6:  # to start and to compile takes less
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(pids) == 2
    assert all(map(is_running, pids))
    coordinator.kill()
    coordinator.wait()
    coordinator.stdout.close()
    deadline = time.monotonic() + LONG_S
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.05)


def test_closing_ends_all_workers(make_job: MakeJob) -> None:
    executor = LocalExecutor(2)
    executor.submit(make_job(100_000, max_epochs=100_000), urgency=(0, 0))
    Listener(executor).until(lambda events: len(events) > 0)
    pids = executor.worker_pids()
    executor.close()
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_a_diverging_job_ends_there_and_its_worker_lives_on(make_job: MakeJob, listener: Listener) -> None:
    (pid,) = listener.executor.worker_pids()
    listener.executor.submit(make_job(10, optimizer="sgd", learning_rate=1e6, schedule="constant"), urgency=(0, 0))
    listener.until_ended()
    results = listener.results()
    assert [result.diverged for result in results] == [False] * (len(results) - 1) + [True]
    assert len(results) < 10
    assert listener.executor.worker_pids() == [pid]


def test_of_several_waiting_jobs_the_most_urgent_runs_first(make_job: MakeJob, listener: Listener) -> None:
    listener.executor.submit(make_job(1, key="running"), urgency=(0, 0))
    for key, urgency in (("c", (7, 1)), ("a", (2, 9)), ("b", (7, 0))):
        listener.executor.submit(make_job(1, key=key), urgency=urgency)
    listener.until_ended("running", "a", "b", "c")
    assert [event.key for event in listener.events if isinstance(event, JobDone)] == ["running", "a", "b", "c"]


def test_a_cancelled_job_that_waits_is_not_run(make_job: MakeJob, listener: Listener) -> None:
    for key in ("running", "unwanted", "wanted"):
        listener.executor.submit(make_job(1, key=key), urgency=(0, 0))
    listener.executor.cancel("unwanted")
    listener.executor.cancel("unheard of")
    listener.until_ended("running", "wanted")
    assert listener.results("unwanted") == []


def test_two_workers_share_the_jobs_and_compute_what_one_computes(make_job: MakeJob, listener: Listener) -> None:
    jobs = [make_job(2, key=str(rate), dropout=rate) for rate in (0.1, 0.2, 0.3, 0.4)]
    executor = LocalExecutor(2)
    two = Listener(executor)
    try:
        # One of the two workers is busy until the end, so the other one must take all the other jobs.
        executor.submit(make_job(100_000, key="long", max_epochs=100_000), urgency=(0, 0))
        two.until(lambda events: len(events) > 0)
        for one in (listener, two):
            for index, job in enumerate(jobs):
                Path(job.checkpoint).unlink(missing_ok=True)
                one.executor.submit(job, urgency=(index + 1, 0))
            one.until_ended(*(job.key for job in jobs))
    finally:
        executor.close()
    for job in jobs:
        assert len(two.results(job.key)) == 2
        assert same(two.results(job.key), listener.results(job.key))
        assert {result.worker for result in listener.results(job.key)} == {0}
    busy = {result.worker for result in two.results("long")}
    others = {result.worker for job in jobs for result in two.results(job.key)}
    assert (len(busy), len(others), busy | others) == (1, 1, {0, 1})


def test_the_settings_of_the_user_change_no_bit(
    make_job: MakeJob, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.executor.submit(make_job(2), urgency=(0, 0))
    listener.until_ended()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "bfloat16")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    executor = LocalExecutor(1)
    set_up = Listener(executor)
    try:
        executor.submit(make_job(2, key="set up"), urgency=(0, 0))
        set_up.until_ended("set up")
    finally:
        executor.close()
    assert same(set_up.results("set up"), listener.results())


def test_a_worker_computes_the_bits_that_the_core_computes_anywhere(make_job: MakeJob, listener: Listener) -> None:
    job = make_job(3)
    listener.executor.submit(job, urgency=(0, 0))
    listener.until_ended()
    arrays = load_search(Path(job.data.directory), job.data.split)
    train = Examples(arrays.train_images.reshape(-1, 28, 28, 1), arrays.train_labels)
    valid = Examples(arrays.valid_images.reshape(-1, 28, 28, 1), arrays.valid_labels)
    training = Training(job.training, LearnerFactory().make(job.training, train, n_classes=10), valid)
    progress = training.start()
    assert same(listener.results(), [training.advance(progress) for _ in range(3)])


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
        # A worker pins itself when it starts; one of them may have run all the jobs before another one has started.
        deadline = time.monotonic() + LONG_S
        while pins := [pid for pid in executor.worker_pids() if len(os.sched_getaffinity(pid)) > 1]:
            assert time.monotonic() < deadline, f"not pinned: {pins}"
            time.sleep(0.05)
        assert sorted(min(os.sched_getaffinity(pid)) for pid in executor.worker_pids()) == cores
    finally:
        executor.close()


def test_a_worker_loads_nothing_of_search_storage_or_tracking() -> None:
    program = "import mnist_hpo.executors.worker as worker, sys; worker.load_most_used(); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in output.split()}
    assert "jax" in loaded
    assert not loaded & {"optuna", "mlflow", "tensorflow_datasets", "tensorflow", "pandas", "sklearn", "sqlalchemy"}
