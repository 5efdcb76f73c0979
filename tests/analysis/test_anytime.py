"""Anytime curves equal calculations by hand and the events of a real scheduler."""

from pathlib import Path

import pytest

from mnist_hpo.analysis.anytime import AnytimePoint, anytime_points, cost_to_reach
from mnist_hpo.bench.overhead import InstantExecutor
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, TrialState
from mnist_hpo.storage.study_storage import StudyStorage


def study_of(slots: int, n_trials: int = 4) -> Study:
    return Study.model_validate(
        {
            "name": "anytime",
            "budget": {"n_trials": n_trials, "max_epochs": 4},
            "slots": slots,
            "sampler": {"name": "random"},
            "fixed": {"depth": 1},
            "pruner": {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 1},
            "space": {
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
                # Few widths, so that trials of equal width end epochs at the same virtual time.
                "width": {"type": "categorical", "choices": [16, 32]},
            },
        }
    )


def trial(number: int, state: TrialState, width: int, *losses: float) -> TrialRecord:
    epochs = {
        epoch: EpochResult(epoch, loss, loss, 0.5, 0.0, 0.0, 0.0, 1.5, 0.0)
        for epoch, loss in enumerate(losses, start=1)
    }
    return TrialRecord(number, state, {"width": width, "learning_rate": 1e-3}, epochs)


def figures(points: list[AnytimePoint]) -> list[tuple[int, int, float, float]]:
    return [(point.n_trials, point.n_epochs, point.worker_s, point.valid_loss) for point in points]


def test_one_slot_runs_trials_one_after_the_other() -> None:
    trials = [trial(0, "complete", 16, 0.5, 0.6), trial(1, "pruned", 16, 0.4), trial(2, "complete", 16, 0.45, 0.3)]
    points = anytime_points(study_of(slots=1), trials)
    assert figures(points) == [(1, 1, 1.5, 0.5), (2, 3, 4.5, 0.4), (3, 5, 7.5, 0.3)]


def test_epochs_of_two_slots_are_ordered_by_their_cost() -> None:
    # An epoch at width 32 costs slightly less than two epochs at width 16.
    trials = [trial(0, "complete", 16, 0.9, 0.8, 0.7), trial(1, "complete", 32, 0.85, 0.75)]
    assert [point.valid_loss for point in anytime_points(study_of(slots=2), trials)] == [0.9, 0.85, 0.8, 0.7]
    assert [point.n_trials for point in anytime_points(study_of(slots=2), trials)] == [2, 2, 2, 2]


def test_failed_and_running_trials_occupy_slots() -> None:
    failed_at_once, running = trial(0, "failed", 16), trial(1, "running", 16, 0.5, 0.45, 0.4)
    # It starts when the first epoch of trial 0 has failed, so its only epoch ends after trial 1's second epoch.
    after = trial(2, "complete", 16, 0.47)
    # At equal virtual times the lower number comes first: trial 2 starts before trial 1's first epoch is handled.
    assert figures(anytime_points(study_of(slots=2), [failed_at_once, running, after])) == [
        (3, 1, 1.5, 0.5),
        (3, 2, 3.0, 0.45),
        (3, 4, 6.0, 0.4),
    ]


def test_the_cost_to_reach_a_loss_is_that_of_the_first_epoch_with_it() -> None:
    points = anytime_points(study_of(slots=1), [trial(0, "complete", 16, 0.5, 0.3, 0.2)])
    cost = cost_to_reach(points, 0.3)
    assert cost is not None
    assert (cost.n_trials, cost.n_epochs, cost.worker_s) == (1, 2, 3.0)
    assert cost_to_reach(points, 0.1) is None
    assert anytime_points(study_of(slots=1), [trial(0, "failed", 16)]) == []


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_epochs_are_in_the_schedulers_order(slots: int, tmp_path: Path) -> None:
    class Listener:
        """An observer that computes the points from the scheduler's calls."""

        def __init__(self) -> None:
            self.begun: set[int] = set()
            self.n_epochs = 0
            self.points: list[tuple[int, int, float]] = []

        def trial_changed(self, trial: TrialRecord) -> None:
            self.begun.add(trial.number)
            if trial.state != "running" or not trial.epochs:
                return
            self.n_epochs += 1
            loss = trial.valid_loss[len(trial.epochs)]
            if not self.points or loss < self.points[-1][2]:
                self.points.append((len(self.begun), self.n_epochs, loss))

    study, listener = study_of(slots, n_trials=40), Listener()
    storage = StudyStorage.create(f"journal:///{tmp_path}/log", study, study_file="", context={})
    data = DataRef("nowhere", "standard", 10)
    Scheduler(
        study, storage, InstantExecutor(), data=data, checkpoints=CheckpointStore(tmp_path), observers=[listener]
    ).run()
    trials = storage.trials()
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    points = anytime_points(study, trials)
    assert [(point.n_trials, point.n_epochs, point.valid_loss) for point in points] == listener.points
    assert len(points) > 3
