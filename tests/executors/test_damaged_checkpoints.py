"""A checkpoint that is damaged, of another training or gone costs time and changes no result."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.job import Job
from mnist_hpo.testing.listener import Listener, same

MakeJob = Callable[..., Job]


def checkpoint_bytes(job: Job) -> dict[str, bytes]:
    """Weights, moments, step and best weights."""
    with safe_open(job.checkpoint, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


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
