"""A disk that becomes full while a study runs: a real file system of a few kilobytes."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from command import Folder


@pytest.fixture
def tiny_disk() -> Generator[Callable[[Path, str], None]]:
    """Return a function that mounts a file system of a given size on a new folder."""
    mounted: list[Path] = []

    def mount(path: Path, size: str) -> None:
        path.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this system mounts no tmpfs: {done.stderr.strip()}")
        mounted.append(path)

    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tiny disk")
    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)


def make_room(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", path], check=True)


def leave_room(path: Path, n_bytes: int) -> None:
    """Fill a disk with a file, except for some bytes."""
    filler = path / "filler"
    filler.unlink(missing_ok=True)
    filler.write_bytes(bytes(shutil.disk_usage(path).free - n_bytes))


def recorded_generations(folder: Folder) -> tuple[list[str], int]:
    """Return the names of the Optuna studies, and how many of them are completely created."""
    with contextlib.closing(sqlite3.connect(folder.storage)) as record:
        names = [name for (name,) in record.execute("SELECT study_name FROM studies ORDER BY study_id")]
        whole = record.execute("SELECT study_id FROM study_user_attributes WHERE key = 'mnist_hpo:study'").fetchall()
    return names, len(whole)


@pytest.mark.slow
def test_a_run_continues_after_the_disk_was_full_of_checkpoints(
    folder: Folder, tiny_disk: Callable[[Path, str], None], trials: list[dict[str, Any]]
) -> None:
    folder.write_study("n_trials: 8", "n_trials: 2")
    checkpoints = folder.path / "mlruns" / "checkpoints"
    tiny_disk(checkpoints, "64k")
    stopped = folder.call("run", "small.yaml", "--workers", "1")
    assert stopped.code == 2
    assert "Traceback" not in stopped.err
    message = stopped.err[stopped.err.index("error: ") :]
    assert "mlruns/checkpoints" in message
    assert "No space left on device" in message
    assert "nothing is lost" in message
    assert [file.name for file in checkpoints.rglob("*.tmp")] == []

    make_room(checkpoints)
    folder.run("--workers", "1")
    assert folder.trials()[0] == trials[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["60k", "300k", "1100k"])
def test_a_run_continues_after_the_disk_was_full(
    tmp_path: Path, tiny_disk: Callable[[Path, str], None], status: dict[str, Any], size: str
) -> None:
    """Storage, tracking, checkpoints and locks share the disk; which write fails depends on its size."""
    folder = Folder(tmp_path)
    folder.write_study()
    tiny_disk(tmp_path / "mlruns", size)
    stopped = folder.call("run", "small.yaml")
    assert stopped.code == 2
    assert "Traceback" not in stopped.err
    message = stopped.err[stopped.err.index("error: ") :]
    assert "No space left on device" in message or "disk is full" in message

    make_room(tmp_path / "mlruns")
    assert folder.run().json()["history_sha256"] == status["history_sha256"]
    assert folder.call("sync", "small").code == 0


@pytest.mark.slow
def test_a_study_can_grow_after_the_disk_was_full_when_its_new_generation_began(
    tmp_path: Path, tiny_disk: Callable[[Path, str], None], shared_tracking: str
) -> None:
    """With the policy asha, another budget begins another generation: an Optuna study NAME@2 with attributes."""
    asha = ("pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 0}", "policy: asha")
    folder, as_long = Folder(tmp_path, shared_tracking), Folder(tmp_path / "as_long", shared_tracking)
    mlruns = tmp_path / "mlruns"
    tiny_disk(mlruns, "100m")
    folder.write_study(*asha, "n_trials: 8, max_epochs: 3", "n_trials: 2, max_epochs: 1")
    folder.run()
    folder.write_study(*asha, "n_trials: 8, max_epochs: 3", "n_trials: 3, max_epochs: 1")
    # Each of these sizes stops the run at another write.
    for n_kilobytes in (0, *range(48, 120, 12)):
        leave_room(mlruns, 1024 * n_kilobytes)
        stopped = folder.call("run", "small.yaml")
        assert stopped.code == 2
        assert "Traceback" not in stopped.err
        message = stopped.err[stopped.err.index("error: ") :]
        assert "mlruns" in message
        assert "disk is full" in message
        (mlruns / "filler").unlink()
        if "small@2" in recorded_generations(folder)[0]:
            break
    assert recorded_generations(folder) == (["small", "small@2"], 1), "the new generation has begun, but is incomplete"

    assert folder.status()["budget"]["n_trials"] == 2
    as_long.path.mkdir()
    as_long.write_study(*asha, "n_trials: 8, max_epochs: 3", "n_trials: 3, max_epochs: 1")
    assert folder.run().json()["history_sha256"] == as_long.run().json()["history_sha256"]
