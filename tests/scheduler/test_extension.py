"""Extend a study whose policy promotes trials: it has the history of a study that was as long from the start, and no
epoch is computed twice. The storage is a SQLite file; the executor simulates training but keeps checkpoints."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from simulated_executor import DATA, SimulatedExecutor, job_events, reproducible, study_of, virtual_history

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
"""With these hyperparameters some trainings diverge, but none kills its worker."""
SEEDS = (5, 6, 7, 10)
"""Seeds of studies in which a trial fails, has more epochs in the longer study, or has fewer; see below."""


class Killed(BaseException):
    """Raised to simulate that the coordinator is killed."""


class CheckpointingExecutor(SimulatedExecutor):
    """An executor that continues from a job's checkpoint, as a worker does, and records each epoch that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[tuple[int, int]] = []
        """The trial number and the epoch of each computed epoch."""

    def _start(self, job: Job) -> None:
        path = Path(job.checkpoint)
        n_saved = int(path.read_text()) if path.exists() else 0
        events: list[Event] = job_events(job)
        epochs = [event.result.epoch for event in events if isinstance(event, EpochDone)]
        self.computed += [(int(job.key), epoch) for epoch in epochs if epoch > n_saved]
        path.write_text(str(max(n_saved, *epochs)))
        self._reports.append(events)


class KillAfter:
    """An observer that kills the coordinator after a given number of recorded changes."""

    def __init__(self, n_records: int) -> None:
        self._left = n_records

    def trial_changed(self, trial: TrialRecord) -> None:
        if not self._left:
            raise Killed
        self._left -= 1


class Workspace:
    """A storage and a folder of checkpoints in which studies run repeatedly."""

    def __init__(self, folder: Path) -> None:
        self.url, self.checkpoints = f"sqlite:///{folder}/optuna.db", folder / "checkpoints"
        self.checkpoints.mkdir()
        self.computed: list[tuple[int, int]] = []
        self.jobs: list[Job] = []
        """The jobs of the latest run."""

    def create(self, study: Study) -> StudyStorage:
        text = study.model_dump_json()
        return StudyStorage.create(self.url, study, study_file=text, context={}, extends_in_place=False)

    def run(self, study: Study, *, kill_after: int | None = None, stop_after: int | None = None) -> str:
        """Run a study with a new coordinator; return how the run ended."""
        executor, polls = CheckpointingExecutor(), iter(range(stop_after or 0))
        storage = self.create(study)
        try:
            Scheduler(
                study,
                storage,
                executor,
                data=DATA,
                checkpoints=CheckpointStore(self.checkpoints),
                observers=[] if kill_after is None else [KillAfter(kill_after)],
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
        return StudyStorage.load(self.url, "simulated").trials()

    def computed_twice(self) -> list[tuple[int, int]]:
        return [epoch for epoch, n in Counter(self.computed).items() if n > 1]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


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
    assert [reproducible(trial) for trial in trials] == [reproducible(trial) for trial in expected]
    assert history_sha256(trials) == history_sha256(expected)


@pytest.mark.parametrize(
    ("seed", "policy", "sampler"),
    [
        *((seed, policy, "tpe") for policy in ("asha", "asha, two objectives") for seed in SEEDS),
        *((5, "asha", sampler) for sampler in ("gp", "cmaes", "genetic")),
        *((5, "asha, two objectives", sampler) for sampler in ("nsgaii", "nsgaiii")),
    ],
)
def test_an_extended_study_has_the_history_of_one_that_was_as_long_from_the_start(
    workspace: Workspace, seed: int, policy: str, sampler: str
) -> None:
    assert workspace.run(study(8, seed, policy=policy, sampler=sampler)) == "ended"
    assert_history(workspace.recorded(), 8, seed, policy, sampler)
    before = {trial.number: trial for trial in workspace.recorded()}
    assert workspace.run(study(12, seed, policy=policy, sampler=sampler)) == "ended"
    assert_history(workspace.recorded(), 12, seed, policy, sampler)
    assert workspace.computed_twice() == []
    for job in workspace.jobs:
        known = before.get(int(job.key))
        assert known is None or job.last_epoch > len(known.epochs), "all epochs of the job are recorded already"


def test_the_studies_have_trials_of_every_kind() -> None:
    """The other tests rely on this."""
    seen = set[str]()
    for seed in SEEDS:
        for short, long in zip(history(8, seed, "asha"), history(12, seed, "asha"), strict=False):
            seen |= {short.state}
            seen |= {"more epochs"} if len(long.epochs) > len(short.epochs) > 0 else set()
            seen |= {"fewer epochs"} if len(long.epochs) < len(short.epochs) else set()
    assert seen == {"complete", "failed", "paused", "more epochs", "fewer epochs"}


def test_a_promoted_trial_continues_from_the_checkpoint_of_the_shorter_study(workspace: Workspace) -> None:
    workspace.run(study(8, 7))
    before = {trial.number: len(trial.epochs) for trial in workspace.recorded()}
    n_before = len(workspace.computed)
    workspace.run(study(12, 7))
    continued = [(number, epoch) for number, epoch in workspace.computed[n_before:] if number in before]
    assert continued
    assert all(epoch > before[number] for number, epoch in continued)


@pytest.mark.parametrize("n_records", [0, 1, 5, 12, 20, 33])
def test_a_study_killed_before_and_after_its_extension_has_the_same_history(
    workspace: Workspace, n_records: int
) -> None:
    assert workspace.run(study(8, 5), kill_after=n_records) == "Killed"
    assert workspace.run(study(12, 5), kill_after=n_records) == "Killed"
    assert workspace.run(study(12, 5), kill_after=n_records // 2) in ("Killed", "ended")
    assert workspace.run(study(12, 5)) == "ended"
    assert_history(workspace.recorded(), 12, 5)
    assert workspace.computed_twice() == []
    assert workspace.run(study(12, 5)) == "ended"
    assert workspace.jobs == [], "all results are recorded already"


@pytest.mark.parametrize("polls", [0, 3, 7])
def test_a_study_stopped_before_and_after_its_extension_has_the_same_history(workspace: Workspace, polls: int) -> None:
    assert workspace.run(study(8, 6), stop_after=polls) == "Interrupted"
    assert workspace.run(study(12, 6), stop_after=polls) == "Interrupted"
    assert workspace.run(study(12, 6)) == "ended"
    assert_history(workspace.recorded(), 12, 6)
    assert workspace.computed_twice() == []


def test_a_study_can_be_extended_repeatedly(workspace: Workspace) -> None:
    for n_trials in (1, 4, 5, 9, 12):
        assert workspace.run(study(n_trials, 5)) == "ended"
        assert_history(workspace.recorded(), n_trials, 5)
    assert workspace.computed_twice() == []


def test_earlier_records_stay_readable_and_the_newest_is_loaded(workspace: Workspace) -> None:
    workspace.run(study(8, 5))
    first = StudyStorage.load(workspace.url, "simulated")
    uid, folder = first.uid, first.folder_name
    workspace.run(study(12, 5))
    newest = StudyStorage.load(workspace.url, "simulated")
    assert_history(newest.trials(), 12, 5)
    assert_history(newest.earlier_trials(), 8, 5)
    assert newest.study_file == study(12, 5).model_dump_json()
    assert newest.uid != uid
    assert newest.replaced_uids == (uid,)
    assert newest.folder_name == folder, "the checkpoints' folder stays the same"
    assert newest.replaced_folder_names == [], "the folder is not to be deleted"
    assert study_names(workspace.url) == ["simulated"]
    in_optuna = {study.study_name: study.n_trials for study in optuna.get_all_study_summaries(workspace.url)}
    assert in_optuna == {"simulated": 8, "simulated@2": 12}


@pytest.mark.parametrize("n_writes", range(9))
def test_a_coordinator_can_be_killed_while_it_creates_the_extended_record(
    workspace: Workspace, n_writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the record is complete, readers see the shorter study. The same command then continues."""
    workspace.run(study(8, 5))
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
            workspace.create(study(12, 5)).close()
        except Killed:
            pass
        else:
            assert n_writes >= 8, "creating the record takes fewer writes than this test assumes"
    if n_writes < 7:
        assert_history(workspace.recorded(), 8, 5)
    assert workspace.run(study(12, 5)) == "ended"
    assert_history(workspace.recorded(), 12, 5)
    assert workspace.computed_twice() == []


def test_a_changed_study_is_rejected_even_if_only_its_shorter_record_has_results(workspace: Workspace) -> None:
    """Otherwise the study would reuse epochs of other trainings."""
    workspace.run(study(8, 5))
    workspace.create(study(12, 5)).close()
    with pytest.raises(UserError, match=re.escape("was started with another study file")):
        workspace.create(study(12, seed=1))
    assert workspace.run(study(12, 5)) == "ended"
    assert_history(workspace.recorded(), 12, 5)


def test_a_budget_below_the_recorded_trials_is_rejected(workspace: Workspace) -> None:
    workspace.run(study(8, 5))
    with pytest.raises(UserError, match=r"budget\.n_trials is 4, but 8 trials"):
        workspace.run(study(4, 5))
