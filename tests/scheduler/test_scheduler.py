"""One study after the other over pretended trainings: what is computed, recorded, kept and refused."""

import dataclasses
import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pretending import (
    DATA,
    LOST,
    UNLUCKY,
    PretendingExecutor,
    given_up,
    plain,
    run_giving_up,
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

Run = Callable[..., PretendingExecutor]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"journal:///{tmp_path}/optuna.log"


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    """Runs a study to its end, or as far as it comes; returns the executor."""

    def run(study: Study, executor: PretendingExecutor | None = None, **options: object) -> PretendingExecutor:
        executor = executor or PretendingExecutor()
        storage = StudyStorage.create(url, study, study_file="", context={})
        run_giving_up(study, storage, executor, checkpoints=tmp_path / "checkpoints", **options)
        return executor

    return run


def recorded(url: str, study: Study) -> list[TrialRecord]:
    return StudyStorage.load(url, study.name).trials()


def budget(n_trials: int) -> dict[str, int]:
    return {"n_trials": n_trials, "max_epochs": 9}


def after(n_polls: int) -> Callable[[], bool]:
    """Says yes once it has been asked so often."""
    polls = iter(range(n_polls))
    return lambda: next(polls, None) is None


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband", "successive_halving"])
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_every_storage_records_the_same_history(run: Run, url: str, tmp_path: Path, scheme: str, pruner: str) -> None:
    study = study_of("tpe", pruner, budget=budget(10))
    url = url.replace("journal", scheme)
    storage = StudyStorage.create(url, study, study_file="", context={})
    run_giving_up(study, storage, PretendingExecutor(), checkpoints=tmp_path)
    history = virtual_history(study)
    assert [plain(trial) for trial in recorded(url, study)] == [plain(trial) for trial in history]
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
    assert [plain(trial) for trial in recorded(url, long)] == [plain(trial) for trial in virtual_history(long)]


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
def test_a_coordinator_killed_at_random_moments_goes_on_from_there(
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
        part = recorded(url, study)
        assert 0 < len(part) <= 12
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [plain(trial) for trial in recorded(url, study)] == [plain(trial) for trial in virtual_history(study)]


def test_every_slot_has_work_from_the_start(run: Run) -> None:
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


def test_a_finished_study_that_is_run_again_computes_and_writes_nothing(run: Run, url: str) -> None:
    study = study_of("random", "hyperband", budget=budget(25))
    run(study)
    before = recorded(url, study)
    assert {trial.state for trial in before} == {"complete", "pruned", "failed"}
    told: list[TrialRecord] = []

    class Observer:
        trial_changed = staticmethod(told.append)

    assert run(study, observers=[Observer()]).jobs == []
    assert recorded(url, study) == before, "with all times"
    assert told == []


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


def test_failed_trials_say_why(run: Run, url: str) -> None:
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


def test_a_trial_that_the_machine_cannot_train_halts_the_run_and_no_failure_is_recorded(
    url: str, tmp_path: Path
) -> None:
    study = losing_study()
    storage = StudyStorage.create(url, study, study_file="", context={})
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            Scheduler(study, storage, PretendingExecutor(), data=DATA, checkpoints=CheckpointStore(tmp_path)).run()
        said.append(str(caught.value))
        trials = recorded(url, study)
        assert (trials[0].state, list(trials[0].epochs)) == ("running", [1])
        assert not is_machine_dependent(trials)
    assert said[0] == said[1]
    assert said[0].startswith(f"trial 0 cannot be trained on this machine: epoch 2: {LOST}. Its parameters: ")
    assert "width=128" in said[0]
    assert "Run the same command again on a better machine, or add --give-up-trial 0 " in said[0]


def test_a_trial_that_another_machine_can_train_leaves_no_trace_in_the_history(
    url: str, tmp_path: Path, run: Run
) -> None:
    class Unlucky(PretendingExecutor):
        """Never trains trial 3."""

        def wait(self, timeout_s: float) -> list[Event]:
            events = super().wait(timeout_s)
            return [JobLost("3", UNLUCKY) if isinstance(e, EpochDone) and e.key == "3" else e for e in events]

    study = study_of("tpe", "median")
    storage = StudyStorage.create(url, study, study_file="", context={})
    with pytest.raises(UserError, match=f"trial 3 cannot be trained on this machine: epoch 1: {UNLUCKY}"):
        run_giving_up(study, storage, Unlucky(), checkpoints=tmp_path, never=[3])
    run(study)
    history = virtual_history(study)
    assert history[3].state != "failed"
    assert [plain(trial) for trial in recorded(url, study)] == [plain(trial) for trial in history]


def test_a_trial_that_is_given_up_is_replayed_and_extended_as_such(url: str, tmp_path: Path, run: Run) -> None:
    study = losing_study()
    with pytest.raises(Interrupted):
        run(study, should_stop=after(30))
    # The command that an interrupted run says to repeat names the trial again.
    run(study, give_up=[0])
    run(study, give_up=[0])
    trials = recorded(url, study)
    assert (trials[0].state, list(trials[0].epochs), trials[0].reason) == ("failed", [1], given_up(0))
    assert is_machine_dependent(trials)
    assert [plain(trial) for trial in trials] == [plain(trial) for trial in virtual_history(study)]

    assert run(study).jobs == []
    longer = study.model_copy(update={"budget": study.budget.model_copy(update={"n_trials": 12})})
    run(longer)
    assert [plain(trial) for trial in recorded(url, study)] == [plain(trial) for trial in virtual_history(longer)]


def test_a_trial_may_be_given_up_before_it_begins(run: Run, url: str) -> None:
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
    with pytest.raises(UserError, match=rf"trial {ended.number} of 'pretended' has already ended \(complete\)"):
        run(study, give_up=[ended.number])
    assert recorded(url, study) == before


def test_a_trial_beyond_the_budget_cannot_be_given_up() -> None:
    study = study_of("random", "none")
    check_give_up(study, [0, 7])
    with pytest.raises(UserError, match=r"--give-up-trial 8: 'pretended' has no such trial; its trials are 0 to 7"):
        check_give_up(study, [8])


def test_a_halt_says_what_to_do(run: Run) -> None:
    with pytest.raises(
        UserError, match=r"the disk is full; nothing is lost: put this right, then run the same command"
    ):
        run(study_of("random", "none"), PretendingExecutor(halt_after=2))


def test_a_result_of_another_kind_of_cpu_is_refused_and_not_recorded(run: Run, url: str) -> None:
    class Mixed(PretendingExecutor):
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
    assert [plain(trial) for trial in recorded(url, study)] == [plain(trial) for trial in virtual_history(study)]


def test_only_the_best_trial_keeps_its_checkpoint(run: Run, url: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")

    class Saving(PretendingExecutor):
        def wait(self, timeout_s: float) -> list[Event]:
            told = list(super().wait(timeout_s))
            for event in told:
                if isinstance(event, EpochDone):
                    path = store.path(checkpoint_name(int(event.key)))
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(b"state")
            return told

    study = study_of("random", "median")
    half_written = store.path(checkpoint_name(2)).with_suffix(".safetensors.4711.tmp")
    half_written.parent.mkdir()
    half_written.touch()
    run(study, Saving())
    best = best_of(recorded(url, study))
    assert best is not None
    assert list((tmp_path / "checkpoints").iterdir()) == [store.path(checkpoint_name(best.number))]


def test_observers_are_told_every_fact_in_order_after_it_is_recorded(run: Run, url: str) -> None:
    study = study_of("random", "hyperband")
    told: list[TrialRecord] = []

    class Observer:
        def trial_changed(self, trial: TrialRecord) -> None:
            told.append(trial)
            there = {known.number: known for known in recorded(url, study)}[trial.number]
            assert plain(there) == plain(trial)

    run(study, observers=[Observer()])
    history = virtual_history(study)
    assert {trial.number: plain(trial) for trial in told} == {trial.number: plain(trial) for trial in history}
    assert len(told) == sum(2 + len(trial.epochs) for trial in history)


def test_a_record_that_does_not_replay_is_refused_with_what_differs(url: str, tmp_path: Path, run: Run) -> None:
    study = study_of("random", "none")
    other = study_of("random", "none", seed=1)
    storage = StudyStorage.create(url, study, study_file="", context={})
    run_giving_up(other, storage, PretendingExecutor(), checkpoints=tmp_path)
    with pytest.raises(UserError) as caught:
        run(study)
    assert str(caught.value).startswith("the record of 'pretended' does not replay: trial 1: dropout: recorded ")
    assert "start a new one under another name" in str(caught.value)


def test_a_result_that_comes_out_otherwise_is_refused(run: Run, url: str) -> None:
    """Another kind of CPU computes the trials that were in flight: their first epochs differ in the last bits."""
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
