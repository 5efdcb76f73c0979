"""What other programs do to a study while it is open ends in a clear error, and never in a traceback."""

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
    """A study with a running trial that has a first epoch."""
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
def test_a_trial_that_another_process_has_finished(
    url: str, running: StudyStorage, study_of: StudyOf, write: Callable[[StudyStorage, StudyFile], object]
) -> None:
    other = create(url, study_of())
    other.trials()
    other.finish_trial(0, "complete", [0.5])
    with pytest.raises(UserError, match=f"storage {url}: another process has finished a trial of this study"):
        write(running, study_of())


def test_a_study_that_was_deleted(url: str, running: StudyStorage, study_of: StudyOf) -> None:
    optuna.delete_study(study_name="small", storage=open_storage(url))
    uses = {
        "start_trial": lambda: WRITES["start_trial"](running, study_of()),
        "trials": running.trials,
        "uid": lambda: running.uid,
        "study_file": lambda: running.study_file,
    }
    if url.startswith("sqlite"):  # A journal takes epochs of a trial whose study is gone; its next reader finds out.
        uses |= {name: lambda write=write: write(running, study_of()) for name, write in WRITES.items()}
    for use in uses.values():
        with pytest.raises(UserError, match=f"storage {url}: a record of the study is missing"):
            use()


@each_write
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_was_deleted_or_replaced(
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
    assert (path.read_bytes() if path.exists() else None) == before, "nothing is written there"


def test_a_study_of_the_same_name_made_meanwhile(url: str) -> None:
    storage = open_storage(url)
    storage.create_new_study([StudyDirection.MINIMIZE], "small")
    with pytest.raises(UserError, match=f"storage {url}: another process has created this study"), user_errors(url):
        storage.create_new_study([StudyDirection.MINIMIZE], "small")
