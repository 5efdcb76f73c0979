"""The scheduler with simulated training: submitted jobs, recorded results, kept checkpoints and errors."""

import dataclasses
import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_executor import (
    DATA,
    OUT_OF_MEMORY,
    SIGKILLED,
    SimulatedExecutor,
    given_up,
    reproducible,
    run_and_give_up,
    study_of,
    virtual_history,
)

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.messages import EpochDone, Event, JobLost
from mnist_hpo.scheduler import Interrupted, Scheduler, check_give_up
from mnist_hpo.search.decision_epochs import decision_epochs
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.connect import open_storage
from mnist_hpo.storage.records import TrialRecord, best_of, history_sha256, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.trial_plan import checkpoint_name

Run = Callable[..., SimulatedExecutor]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"journal:///{tmp_path}/optuna.log"


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    """Return a function that runs a study and returns the executor."""

    def run(study: Study, executor: SimulatedExecutor | None = None, **options: object) -> SimulatedExecutor:
        executor = executor or SimulatedExecutor()
        storage = StudyStorage.create(url, study, study_file="", context={})
        run_and_give_up(study, storage, executor, checkpoints=tmp_path / "checkpoints", **options)
        return executor

    return run


def recorded(url: str, study: Study) -> list[TrialRecord]:
    return StudyStorage.load(url, study.name).trials()


def budget(n_trials: int) -> dict[str, int]:
    return {"n_trials": n_trials, "max_epochs": 9}


def after(n_polls: int) -> Callable[[], bool]:
    """Return a `should_stop` that is False for the first `n_polls` calls, then True."""
    polls = iter(range(n_polls))
    return lambda: next(polls, None) is None


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband", "successive_halving"])
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_every_storage_records_the_same_history(run: Run, url: str, tmp_path: Path, scheme: str, pruner: str) -> None:
    study = study_of("tpe", pruner, budget=budget(10))
    url = url.replace("journal", scheme)
    storage = StudyStorage.create(url, study, study_file="", context={})
    run_and_give_up(study, storage, SimulatedExecutor(), checkpoints=tmp_path)
    history = virtual_history(study)
    assert [reproducible(trial) for trial in recorded(url, study)] == [reproducible(trial) for trial in history]
    assert history_sha256(recorded(url, study)) == history_sha256(history)


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        *itertools.product(("tpe", "random", "grid"), ("median", "hyperband", "successive_halving")),
        *(("qmc", "percentile"), ("gp", "median"), ("cmaes", "hyperband"), ("genetic", "successive_halving")),
        *(("nsgaii", "patient, median"), ("random", "threshold"), ("random", "wilcoxon"), ("random", "patient")),
        *(("nsgaii", "successive_halving, two objectives"), ("nsgaiii", "successive_halving, two objectives")),
    ],
)
def test_an_extended_study_has_the_history_of_one_that_was_as_long_from_the_start(
    run: Run, url: str, sampler: str, pruner: str
) -> None:
    for n_trials in (1, 5, 6, 16):
        run(study_of(sampler, pruner, slots=5, budget=budget(n_trials)))
    long = study_of(sampler, pruner, slots=5, budget=budget(16))
    assert [reproducible(trial) for trial in recorded(url, long)] == [
        reproducible(trial) for trial in virtual_history(long)
    ]


@pytest.mark.parametrize(
    ("scheme", "sampler", "pruner"),
    [
        ("sqlite", "tpe", "hyperband"),
        ("journal", "tpe", "hyperband"),
        pytest.param("sqlite", "gp", "wilcoxon", marks=pytest.mark.slow),
        pytest.param("sqlite", "cmaes", "patient, median", marks=pytest.mark.slow),
        pytest.param("journal", "nsgaii", "percentile", marks=pytest.mark.slow),
    ],
)
def test_a_coordinator_killed_at_random_times_continues_with_the_same_history(
    tmp_path: Path, scheme: str, sampler: str, pruner: str
) -> None:
    study = study_of(sampler, pruner, budget=budget(12))
    url = f"{scheme}:///{tmp_path}/optuna.db"
    script = Path(__file__).with_name("coordinate.py")
    command = [sys.executable, str(script), url, str(tmp_path), study.model_dump_json()]
    draw = random.Random(scheme)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as coordinator:
            assert coordinator.stdout is not None
            for _ in range(draw.randint(1, 12)):
                coordinator.stdout.readline()
            coordinator.kill()
        assert 0 < len(recorded(url, study)) <= 12
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [reproducible(trial) for trial in recorded(url, study)] == [
        reproducible(trial) for trial in virtual_history(study)
    ]


def test_every_slot_has_a_job_from_the_start(run: Run) -> None:
    executor = run(study_of("random", "none", slots=5, budget=budget(8)))
    assert executor.n_jobs_at_each_wait[0] == 5


def test_without_a_pruner_a_trial_is_one_job(run: Run) -> None:
    executor = run(study_of("random", "none"))
    assert sorted(int(job.key) for _, job in executor.jobs) == list(range(8))
    assert {job.last_epoch for _, job in executor.jobs} == {9}


@pytest.mark.parametrize(
    "pruner",
    [
        *("median", "hyperband", "successive_halving", "percentile", "threshold"),
        *("wilcoxon", "patient", "patient, median"),
    ],
)
def test_a_job_goes_to_the_next_epoch_where_a_decision_can_fall(run: Run, pruner: str) -> None:
    study = study_of("random", pruner)
    stops = sorted(decision_epochs(study) | {9})
    executor = run(study)
    for number in range(8):
        ends = [job.last_epoch for _, job in executor.jobs if job.key == str(number)]
        assert ends == stops[: len(ends)]


def test_jobs_that_are_needed_sooner_in_virtual_time_are_more_urgent(run: Run) -> None:
    executor = run(study_of("random", "none", slots=5))
    first = executor.jobs[:5]
    widths = [(int(job.training.parameters["width"]), int(job.key)) for _, job in first]
    by_cost = [key for _, key in sorted(widths)]
    assert [int(job.key) for _, job in sorted(first, key=lambda pair: pair[0])] == by_cost


def test_running_a_finished_study_again_computes_and_writes_nothing(run: Run, url: str) -> None:
    study = study_of("random", "hyperband", budget=budget(25))
    run(study)
    before = recorded(url, study)
    assert {trial.state for trial in before} == {"complete", "pruned", "failed"}
    observed: list[TrialRecord] = []

    class Observer:
        trial_changed = staticmethod(observed.append)

    assert run(study, observers=[Observer()]).jobs == []
    assert recorded(url, study) == before, "including all times"
    assert observed == []


def test_an_interrupted_study_computes_only_what_is_missing(run: Run, url: str) -> None:
    study = study_of("random", "successive_halving")
    with pytest.raises(Interrupted):
        run(study, should_stop=after(9))
    before = {trial.number: trial for trial in recorded(url, study)}
    continued = [(before[int(job.key)], job) for _, job in run(study).jobs if int(job.key) in before]
    assert continued
    for trial, job in continued:
        assert trial.state == "running"
        assert job.last_epoch > len(trial.epochs)
    ended = recorded(url, study)
    assert len(ended) == study.budget.n_trials
    assert "running" not in {trial.state for trial in ended}


def test_failed_trials_have_a_reason(run: Run, url: str) -> None:
    study = study_of("random", "none", budget=budget(30))
    run(study)
    reasons = {trial.reason for trial in recorded(url, study) if trial.state == "failed"}
    diverged = {f"diverged at epoch {epoch}" for epoch in range(1, 5)}
    assert reasons & diverged
    assert reasons - diverged
    for trial in recorded(url, study):
        assert trial.state != "failed" or trial.reason in {given_up(trial.number), *diverged}
        assert trial.was_given_up == (trial.reason == given_up(trial.number))
        assert (trial.value is None) == (trial.state != "complete")
        if trial.reason and "diverged" in trial.reason:
            assert trial.reason == f"diverged at epoch {len(trial.epochs) + 1}"


def losing_study() -> Study:
    """A study whose first trial no worker can finish: it is lost at epoch 2."""
    return study_of("tpe", "median", enqueue=[{"learning_rate": 0.001, "width": 128, "dropout": 0.5}], seed=4)


def test_a_trial_that_the_machine_cannot_train_halts_the_run_and_is_not_recorded_as_failed(
    url: str, tmp_path: Path
) -> None:
    study = losing_study()
    storage = StudyStorage.create(url, study, study_file="", context={})
    messages: list[str] = []
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            Scheduler(study, storage, SimulatedExecutor(), data=DATA, checkpoints=CheckpointStore(tmp_path)).run()
        messages.append(str(caught.value))
        trials = recorded(url, study)
        assert (trials[0].state, list(trials[0].epochs)) == ("running", [1])
        assert not is_machine_dependent(trials)
    assert messages[0] == messages[1]
    assert messages[0].startswith(
        f"trial 0 cannot be trained on this machine: epoch 2: {OUT_OF_MEMORY}. Its parameters: "
    )
    assert "width=128" in messages[0]
    assert "Run the same command again on a better machine, or add --give-up-trial 0 " in messages[0]


def test_a_lost_trial_that_succeeds_on_another_machine_does_not_change_the_history(
    url: str, tmp_path: Path, run: Run
) -> None:
    class LosesTrial3(SimulatedExecutor):
        """Loses every job of trial 3."""

        def wait(self, timeout_s: float) -> list[Event]:
            events = super().wait(timeout_s)
            return [JobLost("3", SIGKILLED) if isinstance(e, EpochDone) and e.key == "3" else e for e in events]

    study = study_of("tpe", "median")
    storage = StudyStorage.create(url, study, study_file="", context={})
    with pytest.raises(UserError, match=f"trial 3 cannot be trained on this machine: epoch 1: {SIGKILLED}"):
        run_and_give_up(study, storage, LosesTrial3(), checkpoints=tmp_path, never=[3])
    run(study)
    history = virtual_history(study)
    assert history[3].state != "failed"
    assert [reproducible(trial) for trial in recorded(url, study)] == [reproducible(trial) for trial in history]


def test_a_trial_that_was_given_up_stays_so_when_the_study_is_replayed_or_extended(
    url: str, tmp_path: Path, run: Run
) -> None:
    study = losing_study()
    with pytest.raises(Interrupted):
        run(study, should_stop=after(30))
    # An interrupted run tells the user to repeat its command, which contains --give-up-trial again.
    run(study, give_up=[0])
    run(study, give_up=[0])
    trials = recorded(url, study)
    assert (trials[0].state, list(trials[0].epochs), trials[0].reason) == ("failed", [1], given_up(0))
    assert is_machine_dependent(trials)
    assert [reproducible(trial) for trial in trials] == [reproducible(trial) for trial in virtual_history(study)]

    assert run(study).jobs == []
    longer = study.model_copy(update={"budget": study.budget.model_copy(update={"n_trials": 12})})
    run(longer)
    assert [reproducible(trial) for trial in recorded(url, study)] == [
        reproducible(trial) for trial in virtual_history(longer)
    ]


def test_a_trial_can_be_given_up_before_it_starts(run: Run, url: str) -> None:
    study = study_of("random", "none")
    executor = run(study, give_up=[6])
    assert "6" not in {job.key for _, job in executor.jobs}
    trial = recorded(url, study)[6]
    assert (trial.state, trial.epochs, trial.reason) == ("failed", {}, given_up(6))


def test_a_trial_that_has_ended_cannot_be_given_up(run: Run, url: str) -> None:
    study = study_of("random", "none")
    run(study)
    before = recorded(url, study)
    ended = next(trial for trial in before if trial.state == "complete")
    with pytest.raises(UserError, match=rf"trial {ended.number} of 'simulated' has already ended \(complete\)"):
        run(study, give_up=[ended.number])
    assert recorded(url, study) == before


def test_a_trial_beyond_the_budget_cannot_be_given_up() -> None:
    study = study_of("random", "none")
    check_give_up(study, [0, 7])
    with pytest.raises(UserError, match=r"--give-up-trial 8: 'simulated' has no such trial; its trials are 0 to 7"):
        check_give_up(study, [8])


def test_the_error_for_a_halted_run_tells_how_to_continue(run: Run) -> None:
    with pytest.raises(
        UserError, match=r"the disk is full; nothing is lost: put this right, then run the same command"
    ):
        run(study_of("random", "none"), SimulatedExecutor(halt_after=2))


def test_a_result_from_another_kind_of_cpu_is_rejected_and_not_recorded(run: Run, url: str) -> None:
    class Mixed(SimulatedExecutor):
        def wait(self, timeout_s: float) -> list[Event]:
            events = super().wait(timeout_s)
            return [
                dataclasses.replace(event, fingerprint={**event.fingerprint, "cpu": "aarch64"})
                if isinstance(event, EpochDone) and event.result.epoch > 1
                else event
                for event in events
            ]

    study = study_of("random", "none")
    with pytest.raises(UserError, match="a worker would compute other results than this machine: cpu: aarch64 there"):
        run(study, Mixed())
    assert all(len(trial.epochs) <= 1 for trial in recorded(url, study))
    run(study)
    assert [reproducible(trial) for trial in recorded(url, study)] == [
        reproducible(trial) for trial in virtual_history(study)
    ]


def test_only_the_best_trial_keeps_its_checkpoint(run: Run, url: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")

    class Saving(SimulatedExecutor):
        def wait(self, timeout_s: float) -> list[Event]:
            events = list(super().wait(timeout_s))
            for event in events:
                if isinstance(event, EpochDone):
                    path = store.path(checkpoint_name(int(event.key)))
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(b"state")
            return events

    study = study_of("random", "median")
    temporary = store.path(checkpoint_name(2)).with_suffix(".safetensors.4711.tmp")
    temporary.parent.mkdir()
    temporary.touch()
    run(study, Saving())
    best = best_of(recorded(url, study))
    assert best is not None
    assert list((tmp_path / "checkpoints").iterdir()) == [store.path(checkpoint_name(best.number))]


def test_observers_are_notified_of_every_change_in_order_after_it_is_recorded(run: Run, url: str) -> None:
    study = study_of("random", "hyperband")
    observed: list[TrialRecord] = []

    class Observer:
        def trial_changed(self, trial: TrialRecord) -> None:
            observed.append(trial)
            stored = {record.number: record for record in recorded(url, study)}[trial.number]
            assert reproducible(stored) == reproducible(trial)

    run(study, observers=[Observer()])
    history = virtual_history(study)
    assert {trial.number: reproducible(trial) for trial in observed} == {
        trial.number: reproducible(trial) for trial in history
    }
    assert len(observed) == sum(2 + len(trial.epochs) for trial in history)


def test_a_record_that_does_not_replay_is_rejected_with_the_difference(url: str, tmp_path: Path, run: Run) -> None:
    study = study_of("random", "none")
    other = study_of("random", "none", seed=1)
    storage = StudyStorage.create(url, study, study_file="", context={})
    run_and_give_up(other, storage, SimulatedExecutor(), checkpoints=tmp_path)
    with pytest.raises(UserError) as caught:
        run(study)
    assert str(caught.value).startswith("the record of 'simulated' does not replay: trial 1: dropout: recorded ")
    assert "start a new one under another name" in str(caught.value)


def test_a_result_that_differs_when_it_is_computed_again_is_rejected(run: Run, url: str) -> None:
    """This happens if another kind of CPU continues a trial: its first epochs differ in the last bits."""
    study = study_of("random", "none", enqueue=[{"learning_rate": 0.001, "width": 64, "dropout": 0.25}] * 3)
    with pytest.raises(Interrupted):
        run(study, should_stop=after(2))
    optuna = open_storage(url)
    (optuna_study,) = optuna.get_all_studies()
    trials = optuna.get_all_trials(optuna_study._study_id, deepcopy=True)
    changed = next(trial for trial in trials if trial.intermediate_values and not trial.state.is_finished())
    result = changed.user_attrs["epoch:1"] | {"valid_loss": 0.125}
    optuna.set_trial_user_attr(changed._trial_id, "epoch:1", result)
    optuna.set_trial_intermediate_value(changed._trial_id, 1, 0.125)
    with pytest.raises(
        UserError, match=rf"trial {changed.number}, epoch 1: .*valid_loss: recorded 0\.125, computed again "
    ):
        run(study)
