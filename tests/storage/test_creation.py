"""Creating a storage is atomic, even if several processes do it at the same time or one is killed."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from command import SMALL, Folder, make_folder

from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.storage.connect import open_storage
from mnist_hpo.storage.study_storage import study_names

N_PROCESSES, N_ROUNDS = 4, 3

CREATE = """\
import sys
from pathlib import Path
from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.study_storage import StudyStorage
name, file = sys.argv[1], read_study(Path(sys.argv[2]))
study = file.study.model_copy(update={"name": name})
print("ready", flush=True)
for line in sys.stdin:
    url = line.strip()
    try:
        with study_lock(url, name):
            StudyStorage.create(url, study, study_file=file.text, context={}).close()
        print("created", flush=True)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""


class Creators:
    """Processes that each create a study in the storage whose URL they read from standard input."""

    def __init__(self, study: Path) -> None:
        self.names = [f"study-{index}" for index in range(N_PROCESSES)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", CREATE, name, study], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for name in self.names
        ]
        assert self.answers() == ["ready"] * N_PROCESSES

    def create(self, url: str) -> list[str]:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{url}\n")
            process.stdin.flush()
        return self.answers()

    def answers(self) -> list[str]:
        return [process.stdout.readline().strip() for process in self.processes if process.stdout is not None]


@pytest.fixture(scope="module")
def creators(tmp_path_factory: pytest.TempPathFactory) -> Generator[Creators]:
    study = tmp_path_factory.mktemp("study") / "small.yaml"
    study.write_text(SMALL)
    creators = Creators(study)
    yield creators
    for process in creators.processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_studies_can_start_at_the_same_time_in_an_empty_folder(creators: Creators, tmp_path: Path, scheme: str) -> None:
    for index in range(N_ROUNDS):
        url = f"{scheme}:///{tmp_path}/round-{index}/optuna.{scheme}"
        assert creators.create(url) == ["created"] * N_PROCESSES
        assert study_names(url) == creators.names


def test_studies_can_start_at_the_same_time_on_an_empty_file(creators: Creators, tmp_path: Path) -> None:
    """Earlier versions left an empty file if they were killed."""
    for index in range(N_ROUNDS):
        path = tmp_path / f"{index}.db"
        path.touch()
        assert creators.create(f"sqlite:///{path}") == ["created"] * N_PROCESSES
        assert study_names(f"sqlite:///{path}") == creators.names


KILLED = """\
import sqlite3, sys, time
from pathlib import Path
from mnist_hpo.storage.new_file import create_atomically
def make(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE studies (x)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO studies VALUES (1)")
    print("half created", flush=True)
    time.sleep(1000)
create_atomically(Path(sys.argv[1]), make)
"""


def test_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half created\n"
        process.kill()
    assert not path.exists(), "an incomplete storage is never visible"
    assert list(tmp_path.glob("*.new*"))
    open_storage(f"sqlite:///{path}").remove_session()
    assert list(tmp_path.glob("*.new*")) == []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM studies").fetchone() == (0,)


@pytest.mark.slow
def test_real_runs_can_start_at_the_same_time_in_an_empty_folder(mnist: PreparedDataset, tmp_path: Path) -> None:
    for _ in range(2):
        folder = make_folder(tmp_path, "concurrent")
        names = [f"small-{index}" for index in range(4)]
        for name in names:
            budget = ("{n_trials: 8, max_epochs: 3}", "{n_trials: 2, max_epochs: 1}")
            folder.write_study("name: small", f"name: {name}", *budget, name=f"{name}.yaml")
        runs = [folder.start("run", f"{name}.yaml", "--workers", "1") for name in names]
        for run in runs:
            outcome = run.wait()
            assert outcome.code == 0, outcome.err
        assert study_names(f"sqlite:///{folder.storage}") == names


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_run_whose_storage_is_deleted_or_replaced_ends_with_a_clear_error(
    mnist: PreparedDataset, finished: Folder, tmp_path: Path, replaced: bool
) -> None:
    folder = make_folder(tmp_path, "gone")
    run = folder.start("run", "small.yaml", "--workers", "1")
    run.suspend_after(r"^study small")
    folder.storage.unlink()
    if replaced:
        with sqlite3.connect(finished.storage) as old, sqlite3.connect(folder.storage) as new:
            old.backup(new)
    run.resume()
    outcome = run.wait()
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert f"{folder.storage} was deleted or replaced while it was in use; put the file back" in outcome.err
    assert folder.run().json()["n_trials"]["running"] == 0
