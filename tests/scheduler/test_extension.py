"""A study of a policy that promotes, extended: the history of a study as long from the start, and nothing computed
twice. In a real SQLite file, over an executor that keeps checkpoints but trains nothing."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from pretending import DATA, PretendingExecutor, job_events, plain, study_of, virtual_history

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import EpochDone, Event
from mnist_hpo.scheduler import Interrupted, Scheduler
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, history_sha256
from mnist_hpo.storage.study_storage import StudyStorage, study_names

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-3, "high": 0.1, "log": True},
    "width": {"type": "categorical", "choices": [32, 64]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
}
"""No training takes its worker down here; some diverge."""
SEEDS = (5, 6, 7, 10)
"""Studies in which a trial fails, goes further in the longer study, or goes less far; see below."""


class Killed(BaseException):
    """The coordinator is killed."""


class CheckpointingExecutor(PretendingExecutor):
    """Trains from a job's checkpoint, as a worker does, and notes each epoch that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[tuple[int, int]] = []
        """Trial and epoch."""

    def _start(self, job: Job) -> None:
        path = Path(job.checkpoint)
        n_known = int(path.read_text()) if path.exists() else 0
        events: list[Event] = job_events(job)
        epochs = [event.result.epoch for event in events if isinstance(event, EpochDone)]
        self.computed += [(int(job.key), epoch) for epoch in epochs if epoch > n_known]
        path.write_text(str(max(n_known, *epochs)))
        self._lanes.append(events)


class Killer:
    """Lets so many facts be recorded."""

    def __init__(self, n_records: int) -> None:
        self._left = n_records

    def trial_changed(self, trial: TrialRecord) -> None:
        if not self._left:
            raise Killed
        self._left -= 1


class Place:
    """A storage and a folder of checkpoints, where studies are run again and again."""

    def __init__(self, folder: Path) -> None:
        self.url, self.checkpoints = f"sqlite:///{folder}/optuna.db", folder / "checkpoints"
        self.checkpoints.mkdir()
        self.computed: list[tuple[int, int]] = []
        self.jobs: list[Job] = []
        """Those of the latest coordinator."""

    def create(self, study: Study) -> StudyStorage:
        text = study.model_dump_json()
        return StudyStorage.create(self.url, study, study_file=text, context={}, extends_in_place=False)

    def run(self, study: Study, *, kill_after: int | None = None, stop_after: int | None = None) -> str:
        """One coordinator's life; how it ended."""
        executor, polls = CheckpointingExecutor(), iter(range(stop_after or 0))
        storage = self.create(study)
        try:
            Scheduler(
                study,
                storage,
                executor,
                data=DATA,
                checkpoints=CheckpointStore(self.checkpoints),
                observers=[] if kill_after is None else [Killer(kill_after)],
                should_stop=lambda: stop_after is not None and next(polls, None) is None,
            ).run()
        except (Killed, Interrupted) as error:
            return type(error).__name__
        finally:
            storage.close()
            self.computed += executor.computed
            self.jobs = [job for _, job in executor.jobs]
        return "ended"

    def recorded(self) -> list[TrialRecord]:
        return StudyStorage.load(self.url, "pretended").trials()

    def computed_twice(self) -> list[tuple[int, int]]:
        return [what for what, n in Counter(self.computed).items() if n > 1]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def study(n_trials: int, seed: int, *, policy: str = "asha", sampler: str = "tpe", **fields: object) -> Study:
    budget = {"n_trials": n_trials, "max_epochs": 9}
    return study_of(sampler, policy, budget=budget, seed=seed, space=SPACE, **fields)


@cache
def history(n_trials: int, seed: int, policy: str, sampler: str = "tpe") -> Sequence[TrialRecord]:
    return virtual_history(study(n_trials, seed, policy=policy, sampler=sampler))


def assert_history(
    trials: Sequence[TrialRecord], n_trials: int, seed: int, policy: str = "asha", sampler: str = "tpe"
) -> None:
    expected = history(n_trials, seed, policy, sampler)
    assert [plain(trial) for trial in trials] == [plain(trial) for trial in expected]
    assert history_sha256(trials) == history_sha256(expected)


@pytest.mark.parametrize(
    ("seed", "policy", "sampler"),
    [
        *((seed, policy, "tpe") for policy in ("asha", "asha, two objectives") for seed in SEEDS),
        *((5, "asha", sampler) for sampler in ("gp", "cmaes", "genetic")),
        *((5, "asha, two objectives", sampler) for sampler in ("nsgaii", "nsgaiii")),
    ],
)
def test_an_extended_study_is_one_that_was_as_long_from_the_start(
    place: Place, seed: int, policy: str, sampler: str
) -> None:
    assert place.run(study(8, seed, policy=policy, sampler=sampler)) == "ended"
    assert_history(place.recorded(), 8, seed, policy, sampler)
    before = {trial.number: trial for trial in place.recorded()}
    assert place.run(study(12, seed, policy=policy, sampler=sampler)) == "ended"
    assert_history(place.recorded(), 12, seed, policy, sampler)
    assert place.computed_twice() == []
    for job in place.jobs:
        known = before.get(int(job.key))
        assert known is None or job.last_epoch > len(known.epochs), "all its epochs are known"


def test_these_studies_have_all_that_can_happen_to_an_extended_one() -> None:
    """Else the tests here would prove little."""
    seen = set[str]()
    for seed in SEEDS:
        for short, long in zip(history(8, seed, "asha"), history(12, seed, "asha"), strict=False):
            seen |= {short.state}
            seen |= {"further"} if len(long.epochs) > len(short.epochs) > 0 else set()
            seen |= {"less far"} if len(long.epochs) < len(short.epochs) else set()
    assert seen == {"complete", "failed", "paused", "further", "less far"}


def test_a_promoted_trial_goes_on_from_the_checkpoint_of_the_shorter_study(place: Place) -> None:
    place.run(study(8, 7))
    before = {trial.number: len(trial.epochs) for trial in place.recorded()}
    n_before = len(place.computed)
    place.run(study(12, 7))
    continued = [(number, epoch) for number, epoch in place.computed[n_before:] if number in before]
    assert continued
    assert all(epoch > before[number] for number, epoch in continued)


@pytest.mark.parametrize("n_records", [0, 1, 5, 12, 20, 33])
def test_killed_before_and_after_the_extension(place: Place, n_records: int) -> None:
    assert place.run(study(8, 5), kill_after=n_records) == "Killed"
    assert place.run(study(12, 5), kill_after=n_records) == "Killed"
    assert place.run(study(12, 5), kill_after=n_records // 2) in ("Killed", "ended")
    assert place.run(study(12, 5)) == "ended"
    assert_history(place.recorded(), 12, 5)
    assert place.computed_twice() == []
    assert place.run(study(12, 5)) == "ended"
    assert place.jobs == [], "all is known"


@pytest.mark.parametrize("polls", [0, 3, 7])
def test_stopped_before_and_after_the_extension(place: Place, polls: int) -> None:
    assert place.run(study(8, 6), stop_after=polls) == "Interrupted"
    assert place.run(study(12, 6), stop_after=polls) == "Interrupted"
    assert place.run(study(12, 6)) == "ended"
    assert_history(place.recorded(), 12, 6)
    assert place.computed_twice() == []


def test_extended_again_and_again(place: Place) -> None:
    for n_trials in (1, 4, 5, 9, 12):
        assert place.run(study(n_trials, 5)) == "ended"
        assert_history(place.recorded(), n_trials, 5)
    assert place.computed_twice() == []


def test_the_earlier_records_stay_readable_and_the_newest_is_shown(place: Place) -> None:
    place.run(study(8, 5))
    first = StudyStorage.load(place.url, "pretended")
    uid, folder = first.uid, first.folder_name
    place.run(study(12, 5))
    newest = StudyStorage.load(place.url, "pretended")
    assert_history(newest.trials(), 12, 5)
    assert_history(newest.earlier_trials(), 8, 5)
    assert newest.study_file == study(12, 5).model_dump_json()
    assert newest.uid != uid
    assert newest.replaced_uids == (uid,)
    assert newest.folder_name == folder, "where the checkpoints are"
    assert newest.replaced_folder_names == [], "the folder is not to be deleted"
    assert study_names(place.url) == ["pretended"]
    in_optuna = {study.study_name: study.n_trials for study in optuna.get_all_study_summaries(place.url)}
    assert in_optuna == {"pretended": 8, "pretended@2": 12}


@pytest.mark.parametrize("n_writes", range(9))
def test_killed_while_the_extended_record_begins(place: Place, n_writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks in between sees the shorter study; the same command goes on."""
    place.run(study(8, 5))
    left = n_writes
    write = RDBStorage.set_study_user_attr

    def dying(self: RDBStorage, study_id: int, key: str, value: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        write(self, study_id, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(RDBStorage, "set_study_user_attr", dying)
        try:
            place.create(study(12, 5)).close()
        except Killed:
            pass
        else:
            assert n_writes >= 8, "the record of an extended study begins with fewer writes"
    if n_writes < 7:
        assert_history(place.recorded(), 8, 5)
    assert place.run(study(12, 5)) == "ended"
    assert_history(place.recorded(), 12, 5)
    assert place.computed_twice() == []


def test_a_changed_study_is_refused_also_where_only_its_shorter_record_has_results(place: Place) -> None:
    """Else epochs of other trainings would be taken for its own."""
    place.run(study(8, 5))
    place.create(study(12, 5)).close()
    with pytest.raises(UserError, match=re.escape("was started with another study file")):
        place.create(study(12, seed=1))
    assert place.run(study(12, 5)) == "ended"
    assert_history(place.recorded(), 12, 5)


def test_fewer_trials_than_are_recorded_are_refused(place: Place) -> None:
    place.run(study(8, 5))
    with pytest.raises(UserError, match=r"budget\.n_trials is 4, but 8 trials"):
        place.run(study(4, 5))
