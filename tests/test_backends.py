"""A study has the same history on every kind of storage: SQLite, a journal file and PostgreSQL."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ENVIRONMENT, PROGRAM, ROOT

from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.study_storage import study_names

STUDY = ROOT / "studies" / "determinism.yaml"
DAEMON = "daemon"
"""A user that exists on every Debian system, since PostgreSQL refuses to run as root."""


def run_study(folder: Path, storage: str) -> dict:
    """Run six trials of the study on a storage; return its status."""
    study = folder / "determinism.yaml"
    study.write_text(STUDY.read_text().replace("n_trials: 24", "n_trials: 6").replace("max_epochs: 9", "max_epochs: 3"))

    def call(*arguments: str | Path) -> str:
        command = [PROGRAM, *arguments, "--storage", storage]
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("run", study)
    return json.loads(call("status", "determinism", "--json"))


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_study(tmp_path_factory.mktemp("sqlite"), "sqlite:///study.db")


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that listens on a socket in a temporary folder and stops after the test."""
    programs = {name: shutil.which(name) for name in ("initdb", "pg_ctl", "runuser")}
    if not all(programs.values()) or os.geteuid() != 0:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl on PATH, and root to start them as another user")
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/pg.XXXXXX"], text=True).strip())
    shutil.chown(folder, DAEMON)

    def as_daemon(program: str, *arguments: str | Path) -> None:
        command = [programs["runuser"], "-u", DAEMON, "--", programs[program], "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    as_daemon("initdb", "-U", "tester", "--auth=trust")
    as_daemon("pg_ctl", "-w", "-l", folder / "log", "-o", f"-k {folder} -c listen_addresses= -F", "start")
    try:
        yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    finally:
        as_daemon("pg_ctl", "-w", "-m", "fast", "stop")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_study_in_a_journal_file_has_the_same_history(on_sqlite: dict, tmp_path: Path) -> None:
    on_journal = run_study(tmp_path, "journal:///study.journal")
    assert on_journal["history_sha256"] == on_sqlite["history_sha256"]
    assert on_journal["best"] == on_sqlite["best"]


@pytest.mark.slow
def test_a_study_in_postgresql_has_the_same_history_and_refuses_a_second_coordinator(
    on_sqlite: dict, postgres: str, tmp_path: Path
) -> None:
    on_postgres = run_study(tmp_path, postgres)
    assert on_postgres["history_sha256"] == on_sqlite["history_sha256"]
    assert on_postgres["n_trials"] == on_sqlite["n_trials"]

    from mnist_hpo.storage.lock import study_lock

    with study_lock(postgres, "determinism"):
        second = subprocess.run(
            [PROGRAM, "run", "determinism.yaml", "--storage", postgres],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
    assert second.returncode == 2
    assert f"process {os.getpid()} on " in second.stderr
    assert read_study(tmp_path / "determinism.yaml").study.name in second.stderr


START = """\
import sys
from pathlib import Path
from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.study_storage import StudyStorage
file = read_study(Path(sys.argv[2]))
study = file.study.model_copy(update={"name": sys.argv[3]})
print("ready", flush=True)
input()
StudyStorage.create(sys.argv[1], study, study_file=file.text, context={}).close()
"""


def test_studies_can_start_at_the_same_time_in_an_empty_postgresql_database(postgres: str) -> None:
    names = [f"study-{index}" for index in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START, postgres, STUDY, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert study_names(postgres) == names
