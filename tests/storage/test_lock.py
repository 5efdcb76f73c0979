"""Only one process at a time can hold a study's lock."""

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.lock import is_held, study_lock

HOLD = """\
import sys, time
from mnist_hpo.storage.lock import study_lock
with study_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    time.sleep(1000)
"""

HOLD_WITH_A_CHILD = """\
import subprocess, sys, time
from mnist_hpo.storage.lock import study_lock
with study_lock(sys.argv[1], sys.argv[2]):
    print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def holder(url: str) -> Generator["subprocess.Popen[str]"]:
    """Another process that holds the study's lock."""
    command = [sys.executable, "-c", HOLD, url, "small"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_error_names_the_process_that_holds_the_lock(url: str, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(UserError) as caught, study_lock(url, "small"):
        pass
    found = re.fullmatch(
        r"the study 'small' is in use by process (\d+) on (\S+), started (.+); "
        r"wait until it ends, or stop it, then run this again",
        str(caught.value),
    )
    assert found is not None
    assert int(found[1]) == holder.pid
    assert found[2] == socket.gethostname()[:24]
    started = time.mktime(time.strptime(found[3], "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - started) < 600


def test_checking_a_lock_does_not_affect_it(url: str, holder: "subprocess.Popen[str]") -> None:
    assert is_held(url, "small")
    assert not is_held(url, "other")
    with study_lock(url, "other"):
        assert is_held(url, "other")
    assert not is_held(url, "other")
    assert is_held(url, "small")


def test_the_lock_is_reported_free_once_its_holder_is_killed(url: str, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    assert not is_held(url, "small")


def test_another_study_in_the_same_storage_can_be_locked(url: str, holder: "subprocess.Popen[str]") -> None:
    with study_lock(url, "other"):
        pass


def test_the_lock_can_be_taken_once_its_holder_is_killed(url: str, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    with study_lock(url, "small"):
        pass


def test_the_lock_is_released_after_its_context_and_after_an_error(url: str) -> None:
    with (
        study_lock(url, "small"),
        pytest.raises(UserError, match=f"by process {os.getpid()} "),
        study_lock(url, "small"),
    ):
        pass
    with pytest.raises(KeyError), study_lock(url, "small"):
        raise KeyError
    with study_lock(url, "small"):
        pass


def test_the_children_of_a_killed_coordinator_do_not_keep_the_lock(url: str) -> None:
    """Worker processes end shortly after their coordinator."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_WITH_A_CHILD, url, "small"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            with study_lock(url, "small"):
                pass
        finally:
            os.kill(child, 9)


def symlink_to_file(folder: Path, path: Path) -> str:
    (folder / "alias").symlink_to(path)
    return str(folder / "alias")


def symlink_to_folder(folder: Path, path: Path) -> str:
    (folder / "alias").symlink_to(path.parent)
    return str(folder / "alias" / path.name)


def path_with_parent_folder(folder: Path, path: Path) -> str:
    return f"{path.parent}/../{path.parent.name}//{path.name}"


def relative_path(folder: Path, path: Path) -> str:
    return os.path.relpath(path)


def percent_encoded_path(folder: Path, path: Path) -> str:
    return str(path).replace("optuna", "%6Fptuna")


@pytest.mark.parametrize(
    "alias",
    [
        symlink_to_file,
        symlink_to_folder,
        path_with_parent_folder,
        relative_path,
        percent_encoded_path,
    ],
)
def test_another_path_of_the_same_file_has_the_same_lock(
    url: str, holder: "subprocess.Popen[str]", tmp_path: Path, alias: Callable[[Path, Path], str]
) -> None:
    scheme, path = url.split(":///")
    other = f"{scheme}:///{alias(tmp_path, Path(path))}"
    with pytest.raises(UserError, match=f"'small' is in use by process {holder.pid} "), study_lock(other, "small"):
        pass


def test_a_hard_link_is_refused(url: str, holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """SQLite would write a second write-ahead log beside it, which would corrupt the database."""
    scheme, path = url.split(":///")
    (tmp_path / "alias").hardlink_to(path)
    with pytest.raises(UserError, match="has 2 hard links"), study_lock(f"{scheme}:///{tmp_path}/alias", "small"):
        pass


def test_deleting_files_beside_the_storage_does_not_release_the_lock(url: str, holder: "subprocess.Popen[str]") -> None:
    path = Path(url.split(":///")[1])
    for file in path.parent.iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file != path:
            file.unlink()
    with pytest.raises(UserError, match="'small' is in use by another process; "), study_lock(url, "small"):
        pass


def test_a_storage_that_replaced_a_locked_one_can_be_locked(url: str, holder: "subprocess.Popen[str]") -> None:
    path = Path(url.split(":///")[1])
    path.unlink()
    with study_lock(url, "small"):
        assert path.exists()


def test_a_released_lock_leaves_no_files(url: str) -> None:
    path = Path(url.split(":///")[1])
    with study_lock(url, "small"):
        pass
    before = sorted(path.parent.iterdir())
    with study_lock(url, "small"):
        assert sorted(path.parent.iterdir()) != before
    assert sorted(path.parent.iterdir()) == before


def test_locks_do_not_leak_file_descriptors(url: str) -> None:
    with study_lock(url, "small"), study_lock(url, "other"):
        before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("small", "other", "third"):
        with study_lock(url, name), pytest.raises(UserError), study_lock(url, name):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_the_lock_does_not_release_sqlites_own_locks(tmp_path: Path) -> None:
    """Closing a file releases all of the process's locks on it, including SQLite's."""
    path = tmp_path / "optuna.db"
    write = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('CREATE TABLE b (x)')"
    with study_lock(f"sqlite:///{path}", "small"):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with study_lock(f"sqlite:///{path}", "small"):
            pass
        with pytest.raises(UserError), study_lock(f"sqlite:///{path}", "a"), study_lock(f"sqlite:///{path}", "a"):
            pass
        other = subprocess.run([sys.executable, "-c", write, path], capture_output=True, text=True)
        assert "database is locked" in other.stderr
