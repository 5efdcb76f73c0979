"""Changes that other programs make to an open study lead to a clear error and never to a traceback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from test_study_storage import StudyOf, create, propose, result_of

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.storage.connect import open_storage, user_errors
from mnist_hpo.storage.study_storage import StudyStorage


@pytest.fixture
def running(url: str, study_of: StudyOf) -> StudyStorage:
    """A study with a running trial that has one recorded epoch."""
    storage = create(url, study_of())
    start(storage, study_of(), 0)
    storage.add_epoch(0, result_of(1, 0.5))
    return storage


def start(storage: StudyStorage, file: StudyFile, number: int) -> None:
    proposal = propose(file, number + 1)[number]
    storage.start_trial(number, proposal.parameters, proposal.distributions, proposal.costs)


WRITES: dict[str, Callable[[StudyStorage, StudyFile], object]] = {
    "start_trial": lambda storage, file: start(storage, file, 1),
    "add_epoch": lambda storage, _file: storage.add_epoch(0, result_of(2, 0.4)),
    "finish_trial": lambda storage, _file: storage.finish_trial(0, "complete", [0.5]),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@pytest.mark.parametrize("write", [WRITES["add_epoch"], WRITES["finish_trial"]], ids=["add_epoch", "finish_trial"])
def test_a_trial_finished_by_another_process_is_reported(
    url: str, running: StudyStorage, study_of: StudyOf, write: Callable[[StudyStorage, StudyFile], object]
) -> None:
    other = create(url, study_of())
    other.trials()
    other.finish_trial(0, "complete", [0.5])
    with pytest.raises(UserError, match=f"storage {url}: another process has finished a trial of this study"):
        write(running, study_of())


def test_a_deleted_study_is_reported(url: str, running: StudyStorage, study_of: StudyOf) -> None:
    optuna.delete_study(study_name="small", storage=open_storage(url))
    uses = {
        "start_trial": lambda: WRITES["start_trial"](running, study_of()),
        "trials": running.trials,
        "uid": lambda: running.uid,
        "study_file": lambda: running.study_file,
    }
    if url.startswith("sqlite"):  # A journal accepts epochs of a deleted study's trial; only its next reader notices.
        uses |= {name: lambda write=write: write(running, study_of()) for name, write in WRITES.items()}
    for use in uses.values():
        with pytest.raises(UserError, match=f"storage {url}: a record of the study is missing"):
            use()


@each_write
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_deleted_or_replaced_file_is_reported_and_not_written(
    url: str,
    running: StudyStorage,
    study_of: StudyOf,
    replaced: bool,
    write: Callable[[StudyStorage, StudyFile], object],
) -> None:
    path = Path(url.split(":///")[1])
    shutil.copy(path, path.with_name("copy"))
    path.unlink()
    if replaced:
        path.with_name("copy").rename(path)
    before = path.read_bytes() if replaced else None
    with pytest.raises(UserError, match=f"storage {url}: {path} was deleted or replaced while it was in use"):
        write(running, study_of())
    running.close()
    assert (path.read_bytes() if path.exists() else None) == before, "nothing is written to the file"


def test_a_study_of_the_same_name_created_by_another_process_is_reported(url: str) -> None:
    storage = open_storage(url)
    storage.create_new_study([StudyDirection.MINIMIZE], "small")
    with pytest.raises(UserError, match=f"storage {url}: another process has created this study"), user_errors(url):
        storage.create_new_study([StudyDirection.MINIMIZE], "small")
