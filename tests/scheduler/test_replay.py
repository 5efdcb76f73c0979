"""A record that was changed is rejected, and the message gives the difference.

The record in SQLite comes from a real run; each test makes one change to a copy of it. The study has eight trials of
three epochs: 0, 2, 3 and 7 are complete, 1 and 4 diverged at epoch 1, 5 was pruned at epoch 2 and 6 at epoch 1.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Folder
from simulated_executor import DATA, SimulatedExecutor, reproducible

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import read_study
from mnist_hpo.storage.records import TrialRecord, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage


class Record:
    """A copy of the finished study's record."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def change(self, sql: str, *values: object) -> None:
        with contextlib.closing(sqlite3.connect(self.folder.storage)) as database, database:
            assert database.execute(sql, values).rowcount > 0

    def set_state(self, number: int, state: str) -> None:
        self.change("UPDATE trials SET state = ? WHERE number = ?", state, number)

    def set_loss(self, number: int, epoch: int, valid_loss: float) -> None:
        """Change a loss in both tables that store it."""
        self.change(
            "UPDATE trial_intermediate_values SET intermediate_value = ? WHERE trial_id = ? AND step = ?",
            valid_loss,
            number + 1,
            epoch,
        )
        self.change(
            "UPDATE trial_user_attributes SET value_json = json_set(value_json, '$.valid_loss', ?) "
            "WHERE trial_id = ? AND key = ?",
            valid_loss,
            number + 1,
            f"epoch:{epoch}",
        )

    def set_value(self, number: int, value: float) -> None:
        self.change("UPDATE trial_values SET value = ? WHERE trial_id = ?", value, number + 1)

    def set_reason(self, number: int, reason: str) -> None:
        self.change(
            "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, 'reason', ?)",
            number + 1,
            json.dumps(reason),
        )

    def delete_epoch(self, number: int, epoch: int) -> None:
        self.change("DELETE FROM trial_intermediate_values WHERE trial_id = ? AND step = ?", number + 1, epoch)

    def add_epoch(self, number: int, epoch: int) -> None:
        """Add an epoch that the trial never ran, with the loss of its first epoch."""
        self.change(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
            "SELECT trial_id, ?, intermediate_value, 'FINITE' FROM trial_intermediate_values "
            "WHERE trial_id = ? AND step = 1",
            epoch,
            number + 1,
        )
        self.change(
            "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) "
            "SELECT trial_id, ?, json_set(value_json, '$.epoch', ?) FROM trial_user_attributes "
            "WHERE trial_id = ? AND key = 'epoch:1'",
            f"epoch:{epoch}",
            epoch,
            number + 1,
        )

    def delete_trial(self, number: int) -> None:
        for table in ("trial_intermediate_values", "trial_user_attributes", "trial_params", "trials"):
            self.change(f"DELETE FROM {table} WHERE trial_id = ?", number + 1)

    def replay(self, n_trials: int = 8) -> SimulatedExecutor:
        """Continue the study with a simulated executor; return the executor."""
        path = self.folder.path / "small.yaml"
        path.write_text(path.read_text().replace("n_trials: 8", f"n_trials: {n_trials}"))
        file = read_study(path)
        url = f"sqlite:///{self.folder.storage}"
        storage = StudyStorage.create(
            url, file.study, study_file=file.text, context=StudyStorage.load(url, file.study.name).context
        )
        executor = SimulatedExecutor()
        Scheduler(file.study, storage, executor, data=DATA, checkpoints=CheckpointStore(self.folder.path)).run()
        storage.close()
        return executor

    def trials(self) -> list[TrialRecord]:
        return StudyStorage.load(f"sqlite:///{self.folder.storage}", "small").trials()


@pytest.fixture
def record(finished: Folder, tmp_path: Path) -> Record:
    folder = Folder(tmp_path)
    finished.copy_record(folder)
    return Record(folder)


def test_replaying_an_unchanged_record_computes_and_writes_nothing(record: Record) -> None:
    before = record.trials()
    assert [trial.state for trial in before] == [
        "complete",
        "failed",
        "complete",
        "complete",
        "failed",
        "pruned",
        "pruned",
        "complete",
    ]
    assert record.replay().jobs == []
    assert record.trials() == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        pytest.param(
            lambda record: record.set_state(5, "RUNNING") or record.add_epoch(5, 3),
            "trial 5, epoch 2: recorded: the trial continues here; now: the trial is pruned here",
            id="a trial continues after it was pruned",
        ),
        pytest.param(
            lambda record: record.delete_epoch(5, 2),
            "trial 5, epoch 1: recorded: the trial is pruned here; now: the trial continues here",
            id="a trial is pruned an epoch early",
        ),
        pytest.param(
            lambda record: record.set_state(3, "PRUNED"),
            "trial 3, epoch 3: recorded: the trial is pruned here; now: the trial is complete with value 0.26",
            id="a complete trial is pruned",
        ),
        pytest.param(
            lambda record: record.set_state(3, "FAIL") or record.set_reason(3, "diverged at epoch 4"),
            "trial 3, epoch 3: recorded: the trial continues here; now: the trial is complete with value 0.26",
            id="a complete trial fails",
        ),
        pytest.param(
            lambda record: record.set_state(3, "FAIL"),
            "trial 3, epoch 4: recorded: the trial failed, but not why",
            id="a failure has no reason",
        ),
        pytest.param(
            lambda record: record.set_reason(4, "diverged at epoch 2"),
            "trial 4, epoch 1: recorded: the trial failed (diverged at epoch 2); now: its last epoch is 0",
            id="a failure at another epoch",
        ),
        pytest.param(
            lambda record: record.set_value(3, 0.125),
            "trial 3, epoch 3: recorded: the trial is complete with value 0.125 here; "
            "now: the trial is complete with value 0.26",
            id="another value",
        ),
        pytest.param(
            lambda record: record.delete_epoch(3, 3),
            "trial 3, epoch 2: recorded: the trial is complete with value 0.26",
            id="the last epoch is missing",
        ),
        pytest.param(
            lambda record: record.delete_epoch(3, 2),
            "trial 3, epoch 2: recorded: nothing, although epoch 3 exists",
            id="an epoch in between is missing",
        ),
        pytest.param(
            lambda record: record.add_epoch(3, 4),
            "trial 3, epoch 3: recorded: the trial continues here; now: the trial is complete",
            id="one epoch too many",
        ),
        pytest.param(
            lambda record: record.set_loss(7, 1, 9.0),
            "trial 7, epoch 1: recorded: the trial continues here; now: the trial is pruned here",
            id="a loss that the pruner prunes",
        ),
        pytest.param(
            lambda record: record.set_loss(6, 1, 0.0625),
            "trial 6, epoch 1: recorded: the trial is pruned here; now: the trial continues here",
            id="a loss that the pruner does not prune",
        ),
        pytest.param(
            lambda record: record.set_loss(3, 3, 0.125),
            "trial 3, epoch 3: recorded: the trial is complete with value 0.267",
            id="a loss that gives another value",
        ),
        pytest.param(
            lambda record: record.delete_trial(6),
            "trial 6: recorded: nothing, although trial 7 exists",
            id="a trial is missing",
        ),
    ],
)
def test_a_changed_record_is_rejected_with_the_difference(
    record: Record, change: Callable[[Record], object], difference: str
) -> None:
    change(record)
    before = record.trials()
    with pytest.raises(UserError) as caught:
        record.replay(n_trials=9)
    assert str(caught.value).startswith(f"the record of 'small' does not replay: {difference}")
    assert record.trials()[:8] == before, "the record is unchanged"


@pytest.mark.parametrize(
    ("sql", "damage"),
    [
        (
            "UPDATE trial_intermediate_values SET intermediate_value = 0.125 WHERE trial_id = 4 AND step = 2",
            "epoch 2 has valid_loss 0.125 in one place, and valid_loss 0.29",
        ),
        (
            "DELETE FROM trial_user_attributes WHERE trial_id = 4 AND key = 'epoch:2'",
            "'epoch:2' is missing",
        ),
        (
            "UPDATE trials SET state = 'WAITING' WHERE number = 3",
            "its state is WAITING, which mnist-hpo never records",
        ),
    ],
)
def test_an_inconsistent_record_is_rejected(record: Record, sql: str, damage: str) -> None:
    record.change(sql)
    with pytest.raises(UserError) as caught:
        record.replay()
    assert f"the record of trial 3 of the study 'small' is damaged: {damage}" in str(caught.value)


def test_the_run_command_rejects_a_changed_record_with_one_line(record: Record) -> None:
    record.set_state(3, "PRUNED")
    outcome = record.folder.call("run", "small.yaml", "--workers", "1")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith(
        "error: the record of 'small' does not replay: trial 3, epoch 3: recorded: the trial is pruned"
    )
    assert last.endswith("under another name")


def test_a_lost_trial_recorded_as_failed_by_an_older_version_counts_as_given_up(record: Record) -> None:
    record.set_reason(4, "3 workers died of it: killed by SIGKILL (the system does so when memory runs out)")
    before = record.trials()
    assert record.replay().jobs == []
    assert record.trials() == before
    assert is_machine_dependent(before)
    assert [trial.number for trial in before if trial.was_given_up] == [4]


def test_the_end_of_a_trial_that_was_not_recorded_is_decided_again(record: Record) -> None:
    """This is the record after a kill between writing a trial's last epoch and its end."""
    before = [reproducible(trial) for trial in record.trials()]
    for number in (3, 5):
        record.set_state(number, "RUNNING")
    assert record.replay().jobs == []
    assert [reproducible(trial) for trial in record.trials()] == before
