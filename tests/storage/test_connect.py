"""Errors about a storage that cannot be opened name it and the cause, and contain no password."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.connect import open_storage
from mnist_hpo.storage.lock import study_lock


def refusal(url: str) -> str:
    with pytest.raises(UserError) as caught:
        open_storage(url)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("url", ["optuna.db", "", "nonsense", "journal:optuna.log", "journal://host/x", "mongo://x/y"])
def test_an_invalid_storage_url_is_refused(url: str) -> None:
    assert refusal(url).startswith(f"storage {url}: ")


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, scheme: str) -> None:
    assert refusal(f"{scheme}:///{tmp_path}").startswith(f"storage {scheme}:///{tmp_path}: ")


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "file").touch()
    url = f"{scheme}:///{tmp_path}/file/optuna"
    assert refusal(url).startswith(f"storage {url}: the folder {tmp_path}/file cannot be created: ")


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("name: small\n" * 100)
    url = f"sqlite:///{tmp_path}/optuna.db"
    assert refusal(url) == f"storage {url}: file is not a database"
    assert (tmp_path / "optuna.db").read_text() == "name: small\n" * 100


def test_a_file_that_is_not_a_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "optuna.log").write_text("name: small\n" * 100)
    url = f"journal:///{tmp_path}/optuna.log"
    assert refusal(url).startswith(f"storage {url}: ")


def test_a_storage_in_memory_is_refused() -> None:
    assert refusal("sqlite://") == "storage sqlite://: is lost when the run ends; name a file: sqlite:///FILE"


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_the_folder_is_created(tmp_path: Path, scheme: str) -> None:
    open_storage(f"{scheme}:///{tmp_path}/a/b/optuna").remove_session()
    assert (tmp_path / "a/b/optuna").exists()


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_lock_that_cannot_be_created_is_reported_clearly(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "file").touch()
    url = f"{scheme}:///{tmp_path}/file/optuna"
    with pytest.raises(UserError, match=f"storage {url}: "), study_lock(url, "small"):
        pass


def test_a_read_only_storage_cannot_be_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    study_id = open_storage(url).create_new_study([StudyDirection.MINIMIZE], "small")
    storage = open_storage(url, read_only=True)
    assert storage.get_study_id_from_name("small") == study_id
    with pytest.raises(StorageInternalError) as caught:
        storage.set_study_user_attr(study_id, "key", "value")
    assert "readonly" in str(caught.value.__cause__)


UNSUPPORTED = {
    "sqlite+pysqlite:///{}/optuna.db": "sqlite+pysqlite is not supported; use sqlite:///FILE",
    "sqlite:///{}/optuna.db?timeout=5": "options in a URL and file: addresses are not supported; use sqlite:///FILE",
    "sqlite:///file:{}/optuna.db?uri=true": "options in a URL and file: addresses are not supported",
    "sqlite:///file:{}/optuna.db": "options in a URL and file: addresses are not supported",
    "journal:///{}/optuna.log?x=1": "options in a URL and file: addresses are not supported; use journal:///FILE",
    "sqlite://host{}": "names no file; use sqlite:///FILE",
    "sqlite:///:memory:": "is lost when the run ends",
    "SQLite:///{}/optuna.db": "SQLite is not supported",
    "sqlite:///{}/%00": "null byte",
    "postgresql://me:secret@host/x": "postgresql is not supported; use .* postgresql+psycopg://",
    "postgresql+psycopg://me:secret@host:port/x": "not a storage URL",
    "mysql://me:secret@host/x": "mysql is not supported",
}


@pytest.mark.parametrize(("url", "message"), UNSUPPORTED.items())
@pytest.mark.parametrize("read_only", [False, True])
def test_unsupported_forms_of_a_url_are_refused(tmp_path: Path, url: str, message: str, read_only: bool) -> None:
    for use in (lambda name: open_storage(name, read_only=read_only), lambda name: study_lock(name, "a").__enter__()):
        with pytest.raises(UserError, match=message.replace("+", r"\+")) as caught:
            use(url.format(tmp_path))
        assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_special_characters_names_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a{SCHEMA_VERSION}{{}} %41ü#"
    path.mkdir()
    url = f"sqlite:///{path}/x.db".replace("%", "%25")
    storage = open_storage(url)
    storage.create_new_study([StudyDirection.MINIMIZE], "small")
    storage.remove_session()
    assert [study.study_name for study in open_storage(url, read_only=True).get_all_studies()] == ["small"]
    assert {file.name for file in path.iterdir()} <= {"x.db", "x.db-wal", "x.db-shm", "x.db.lock"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for scheme in ("sqlite", "journal"):
        assert refusal(f"{scheme}:///{tmp_path}/pipe").endswith(f"{tmp_path}/pipe is not a regular file")


def test_tables_of_another_version_of_optuna_are_reported(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    open_storage(url).remove_session()
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    assert refusal(url).startswith(f"storage {url}: The runtime optuna version ")
