"""A study has the same history, however events arrive and wherever its coordinator is interrupted.

A Hypothesis state machine runs a study repeatedly. Each run is killed at a write, stopped, or halted by a full disk,
and some runs extend the study. The executor delays, reorders, repeats and loses events. After each run the record must
be a prefix of the expected history, and at the end all of it.
"""

import tempfile
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from simulated_executor import (
    DATA,
    POLICIES,
    Choose,
    SimulatedExecutor,
    lost_trial,
    reproducible,
    study_of,
    virtual_history,
)

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.scheduler import Interrupted, Scheduler
from mnist_hpo.search.make_policy import policy_class
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, history_sha256
from mnist_hpo.storage.study_storage import StudyStorage

SAMPLERS = ["tpe", "random", "grid"]
PRUNERS = ["none", "median", "hyperband", "successive_halving"]
FAST_METHODS = [
    *((sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS),
    *((sampler, policy) for sampler in ("tpe", "random") for policy in POLICIES),
    ("gp", "hyperband"),
    ("cmaes", "asha"),
    ("nsgaii", "none"),
    ("random", "wilcoxon"),
]
MORE_METHODS = [
    *((sampler, pruner) for sampler in ("qmc", "gp", "cmaes", "genetic", "nsgaii") for pruner in ("none", "hyperband")),
    *((sampler, "asha") for sampler in ("gp", "cmaes", "genetic")),
    *((sampler, policy) for sampler in ("nsgaii", "nsgaiii") for policy in POLICIES if "two" in policy),
    *(("random", pruner) for pruner in ("percentile", "threshold", "wilcoxon", "patient", "patient, median")),
]
"""Samplers with pruners, or with policies."""
METHODS = [
    *FAST_METHODS,
    *(pytest.param(*method, marks=pytest.mark.slow) for method in MORE_METHODS if method not in FAST_METHODS),
]

SCRIPTS = st.lists(st.integers(0, 23), max_size=60)
"""The successive decisions of a `SimulatedExecutor`, followed by zeros."""


class Killed(BaseException):
    """Raised to simulate that the coordinator is killed."""


class CrashingStorage(InMemoryStorage):
    """A storage that raises `Killed` before or after a given write, and keeps what has been written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_before_kill: int | None = None
        self.kill_after_write = False
        self.written: list[tuple[object, ...]] = []

    def _write(self, write: Callable[..., Any], what: tuple[object, ...] | None, *arguments: Any) -> Any:
        if self.writes_before_kill is not None:
            self.writes_before_kill -= 1
            if self.writes_before_kill < 0 and not self.kill_after_write:
                raise Killed
        result = write(*arguments)
        if what is not None:
            self.written.append(what)
        if self.writes_before_kill is not None and self.writes_before_kill < 0:
            raise Killed
        return result

    def create_new_trial(self, study_id: int, template_trial: Any = None) -> int:
        number = template_trial.number
        return self._write(super().create_new_trial, ("start", number), study_id, template_trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._write(super().set_trial_user_attr, None, trial_id, key, value)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        what = ("epoch", self.get_trial(trial_id).number, step, intermediate_value.hex())
        self._write(super().set_trial_intermediate_value, what, trial_id, step, intermediate_value)

    def set_trial_state_values(self, trial_id: int, state: Any, values: Any = None) -> bool:
        what = ("end", self.get_trial(trial_id).number, state.name, values)
        return self._write(super().set_trial_state_values, what, trial_id, state, values)


def choose_from(script: list[int]) -> Choose:
    rest = iter(script)
    return lambda n: next(rest, 0) % n


@cache
def expected_history(study_json: str) -> tuple[TrialRecord, ...]:
    return virtual_history(Study.model_validate_json(study_json))


@cache
def expected_writes(study_json: str) -> list[tuple[object, ...]]:
    runs = StudyRuns(Study.model_validate_json(study_json))
    runs.run_to_the_end()
    return runs.storage.written


class StudyRuns:
    """A study's storage, and the coordinators that run the study one after the other."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.storage = CrashingStorage()
        self.generations: list[int] = []
        self.begin_generation()

    def begin_generation(self) -> None:
        self.storage.written = []
        directions = [StudyDirection.MINIMIZE] * len(self.study.objectives)
        name = f"{self.study.name} {len(self.generations)}"
        self.generations.append(self.storage.create_new_study(directions, name))

    def extend(self, study: Study) -> None:
        self.study = study
        if not policy_class(study).extends_in_place:
            self.begin_generation()

    def open(self) -> StudyStorage:
        return StudyStorage("memory", self.storage, self.study.name, self.generations)

    def run(
        self,
        script: list[int] | None = None,
        *,
        writes_before_kill: int | None = None,
        kill_after_write: bool = False,
        stop_after: int | None = None,
        halt_after: int | None = None,
        give_up: Collection[int] = (),
    ) -> str:
        """Run the study with a new coordinator; return how the run ended."""
        polls = iter(range(stop_after)) if stop_after is not None else None
        executor = SimulatedExecutor(choose_from(script or []), halt_after=halt_after)
        self.storage.writes_before_kill, self.storage.kill_after_write = writes_before_kill, kill_after_write
        with tempfile.TemporaryDirectory() as folder:
            try:
                Scheduler(
                    self.study,
                    self.open(),
                    executor,
                    data=DATA,
                    checkpoints=CheckpointStore(Path(folder)),
                    give_up=give_up,
                    should_stop=lambda: polls is not None and next(polls, None) is None,
                ).run()
            except Killed:
                return "killed"
            except Interrupted:
                return "interrupted"
            except UserError as error:
                if lost_trial(error) is not None:
                    return f"lost {lost_trial(error)}"
                if "the disk is full" not in str(error):
                    raise
                return "halted"
            finally:
                self.storage.writes_before_kill = None
        return "ended"

    def run_to_the_end(self, script: list[int] | None = None) -> None:
        """Run the study until it has ended. Give up a trial that is lost twice."""
        ended = self.run(script)
        while ended != "ended":
            assert ended.startswith("lost ")
            again = self.run()
            ended = self.run(give_up=[int(ended.removeprefix("lost "))]) if again == ended else again

    def trials(self) -> list[TrialRecord]:
        return self.open().trials()


class DisturbedStudy(RuleBasedStateMachine):
    sampler, pruner = "random", "none"

    @initialize(
        n_trials=st.integers(1, 8),
        slots=st.sampled_from([1, 2, 3, 5]),
        seed=st.integers(0, 3),
        patience_epochs=st.sampled_from([None, 2]),
    )
    def begin(self, n_trials: int, slots: int, seed: int, patience_epochs: int | None) -> None:
        self.budget = {"n_trials": n_trials, "max_epochs": 9, "patience_epochs": patience_epochs}
        self.fields = {"slots": slots, "seed": seed}
        self.extended = False
        self.runs = StudyRuns(self.study())

    def study(self) -> Study:
        return study_of(self.sampler, self.pruner, budget=self.budget, **self.fields)

    @rule(script=SCRIPTS, writes=st.integers(0, 150), after=st.booleans())
    def kill(self, script: list[int], writes: int, after: bool) -> None:
        self.runs.run(script, writes_before_kill=writes, kill_after_write=after)

    @rule(script=SCRIPTS, polls=st.integers(0, 40))
    def stop(self, script: list[int], polls: int) -> None:
        self.runs.run(script, stop_after=polls)

    @rule(script=SCRIPTS, waits=st.integers(0, 20))
    def halt(self, script: list[int], waits: int) -> None:
        self.runs.run(script, halt_after=waits)

    @rule(n_more=st.integers(1, 4))
    def extend(self, n_more: int) -> None:
        if self.budget["n_trials"] + n_more <= 12:
            self.budget["n_trials"] += n_more
            self.runs.extend(self.study())
            self.extended = policy_class(self.study()).extends_in_place

    @rule(script=SCRIPTS)
    def run_to_the_end(self, script: list[int]) -> None:
        self.runs.run_to_the_end(script)
        history = expected_history(self.study().model_dump_json())
        assert [reproducible(trial) for trial in self.runs.trials()] == [reproducible(trial) for trial in history]
        assert history_sha256(self.runs.trials()) == history_sha256(history)

    @invariant()
    def the_record_is_a_prefix_of_the_expected_history(self) -> None:
        if not hasattr(self, "runs"):
            return
        history = expected_history(self.study().model_dump_json())
        recorded = self.runs.trials()
        for trial, expected in zip(recorded, history[: len(recorded)], strict=True):
            assert trial.parameters == expected.parameters
            assert trial.paused_after == expected.paused_after[: len(trial.paused_after)]
            if trial.state not in ("running", "paused"):
                assert reproducible(trial) == reproducible(expected)
            assert list(trial.valid_loss.items()) == list(expected.valid_loss.items())[: len(trial.epochs)]

    def teardown(self) -> None:
        if not hasattr(self, "runs"):
            return
        self.run_to_the_end([])
        in_order, written = expected_writes(self.study().model_dump_json()), self.runs.storage.written
        if self.extended:
            in_order, written = sorted(in_order, key=repr), sorted(written, key=repr)
        assert written == in_order, "each start, epoch and end is written once, in the order of virtual time"


def check_history(sampler: str, pruner: str, max_examples: int) -> None:
    machine = type("Machine", (DisturbedStudy,), {"sampler": sampler, "pruner": pruner})
    phases = set(Phase) - {Phase.explain}  # It traces every line, which takes minutes.
    run_state_machine_as_test(
        machine, settings=settings(max_examples=max_examples, stateful_step_count=8, phases=phases)
    )


@pytest.mark.parametrize(("sampler", "pruner"), METHODS)
def test_a_disturbed_study_has_the_expected_history(sampler: str, pruner: str) -> None:
    check_history(sampler, pruner, max_examples={"tpe": 10, "gp": 5}.get(sampler, 16))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("sampler", "pruner"), METHODS)
def test_a_disturbed_study_has_the_expected_history_in_many_examples(sampler: str, pruner: str) -> None:
    check_history(sampler, pruner, max_examples=300)


@pytest.mark.parametrize(("sampler", "pruner"), METHODS)
def test_the_simulated_studies_have_trials_of_every_kind(sampler: str, pruner: str) -> None:
    """The tests above rely on this."""
    seen = set[str]()
    for seed in range(12):
        budget = {"n_trials": 12, "max_epochs": 9, "patience_epochs": 2 if seed % 2 else None}
        for trial in virtual_history(study_of(sampler, pruner, budget=budget, seed=seed)):
            seen.add(trial.state)
            seen.add((trial.reason or "").split(" ")[0])
            seen.add("early" if trial.state == "complete" and len(trial.epochs) < 9 else "")
    assert seen >= {"complete", "failed", "diverged", "early"}
    assert "given" in seen or pruner.startswith("asha")
    assert ("paused" in seen) == (pruner.startswith("asha"))
    assert ("pruned" in seen) == (pruner != "none" and not pruner.startswith("asha"))
