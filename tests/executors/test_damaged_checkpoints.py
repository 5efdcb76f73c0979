"""A damaged, missing or foreign checkpoint costs time but does not change any result."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.job import Job
from mnist_hpo.testing.listener import Listener, same

MakeJob = Callable[..., Job]


def checkpoint_bytes(job: Job) -> dict[str, bytes]:
    """Return the tensors of a job's checkpoint: weights, Adam's moments, step and the best epoch's weights."""
    with safe_open(job.checkpoint, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.offset_keys()}


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    changed = {}
    for position in (0.3, 0.5, 0.7, 0.9):  # In the best weights, the moments and the weights.
        at = int(position * len(content)) // 4 * 4 + 2
        changed[f"one bit changed at {position}"] = content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]
    return changed | {
        "empty": b"",
        "truncated in the header": content[:20],
        "truncated in the weights": content[:middle],
        "not a checkpoint": b"\x00" * 100,
    }


def test_epochs_of_a_damaged_foreign_or_missing_checkpoint_are_computed_again(
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

    for damage, content in damaged(kept).items() | {("of another training", foreign), ("missing", None)}:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        listener.events.clear()
        listener.executor.submit(make_job(6), urgency=(0, 0))
        listener.until_ended()
        assert same(listener.results(), results), damage
        assert checkpoint_bytes(make_job(6)) == state, damage


@pytest.mark.slow
def test_ten_resumed_jobs_of_one_epoch_equal_one_job_of_ten_epochs(make_job: MakeJob, listener: Listener) -> None:
    uninterrupted = make_job(10, key="uninterrupted")
    listener.executor.submit(uninterrupted, urgency=(0, 0))
    listener.until_ended("uninterrupted")
    results = listener.results("uninterrupted")
    assert [result.epoch for result in results] == list(range(1, 11))
    for last_epoch in range(1, 11):
        resumed = make_job(last_epoch, key="resumed")
        executor = LocalExecutor(1)
        fresh = Listener(executor)
        try:
            executor.submit(resumed, urgency=(0, 0))
            fresh.until_ended("resumed")
        finally:
            executor.close()
        assert same(fresh.results("resumed"), results[:last_epoch])
    assert checkpoint_bytes(resumed) == checkpoint_bytes(uninterrupted)
    names = "".join(checkpoint_bytes(resumed))
    assert all(part in names for part in ("parameters", "optimizer_state", "step", "best"))
