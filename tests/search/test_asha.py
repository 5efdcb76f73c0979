"""Asynchronous successive halving with promotion, as in Li et al. (MLSys 2020), algorithm 2."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.search.check import check_study
from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.pareto import ranking
from mnist_hpo.search.policy import Finished, Resume, Start, Wait
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import read_study
from mnist_hpo.spec.study import ParameterValue, Study

SPACE: dict[str, Any] = {
    "width": {"type": "int", "low": 8, "high": 64},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "rmsprop"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "l2": {"type": "float", "low": 1e-6, "high": 1e-3, "when": {"optimizer": "sgd", "depth": 2}},
    "depth": {"type": "int", "low": 1, "high": 2},
}
TWO = [{"metric": "valid_loss"}, {"metric": "n_parameters"}]

WriteStudy = Callable[..., Path]


def study_of(n_trials: int = 27, max_epochs: int = 9, factor: int = 3, **fields: object) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "budget": {"n_trials": n_trials, "max_epochs": max_epochs},
            "policy": {"name": "asha", "min_resource": 1, "reduction_factor": factor},
            "sampler": "random",
            "space": SPACE,
        }
        | fields
    )


@dataclasses.dataclass
class Trial:
    parameters: Mapping[str, ParameterValue]
    state: str = "running"
    epoch: int = 0


class Slots:
    """Drives a policy: trials train when the test says so, with measures that it chooses."""

    def __init__(self, study: Study, measures: Callable[[int, int], Mapping[str, float]]) -> None:
        self.study, self._measures = study, measures
        self.policy = make_policy(study)
        self.trials: list[Trial] = []
        self.resumed: list[tuple[int, int]] = []
        """(trial number, the epoch after which it was paused), in the order of resumption."""

    def fill(self) -> object:
        """Ask the policy what a free slot does, and apply it."""
        decision = self.policy.next()
        match decision:
            case Start(parameters):
                self.trials.append(Trial(parameters))
            case Resume(number):
                assert self.trials[number].state == "paused"
                self.trials[number].state = "running"
                self.resumed.append((number, self.trials[number].epoch))
            case _:
                pass
        return decision

    def train(self, number: int) -> str:
        """Train a trial until it is paused or complete."""
        trial, last = self.trials[number], self.study.budget.max_epochs
        while trial.state == "running":
            trial.epoch += 1
            measures = self._measures(number, trial.epoch)
            advice = self.policy.on_epoch(number, trial.epoch, measures)
            if trial.epoch == last:
                trial.state = "complete"
                self.policy.on_complete(number, measures)
            elif advice == "pause":
                trial.state = "paused"
        return trial.state

    def fail(self, number: int) -> None:
        """Make a trial fail in its next epoch."""
        self.trials[number].state = "failed"
        self.policy.on_failure(number, self.trials[number].epoch + 1)

    def running(self) -> list[int]:
        return [number for number, trial in enumerate(self.trials) if trial.state == "running"]


def losses(*by_trial: float) -> Callable[[int, int], Mapping[str, float]]:
    return lambda number, epoch: {"valid_loss": by_trial[number], "n_parameters": 1.0}


def run_one_by_one(study: Study, measures: Callable[[int, int], Mapping[str, float]]) -> Slots:
    slots = Slots(study, measures)
    while not isinstance(slots.fill(), Finished):
        for number in slots.running():
            slots.train(number)
    return slots


def test_a_trial_pauses_exactly_at_the_rungs() -> None:
    slots = Slots(study_of(3, max_epochs=10), losses(1.0, 2.0, 3.0))
    assert sorted(slots.policy.decision_epochs) == [1, 3, 9]
    for number in range(3):
        assert slots.fill() == Start(slots.trials[number].parameters)
        assert slots.train(number) == "paused"
    assert slots.fill() == Resume(0)
    assert slots.train(0) == "paused"
    assert slots.trials[0].epoch == 3


@pytest.mark.slow
@given(st.permutations(range(27)))
def test_the_best_third_of_each_rung_is_eventually_promoted(order: list[int]) -> None:
    """With one slot and constant losses, the best 9 of 27 trials reach 3 epochs, and the best 3 of these reach 9.

    Other trials may be promoted too, if they were among the best third before better ones arrived: the algorithm is
    asynchronous.
    """
    slots = run_one_by_one(study_of(27), losses(*map(float, order)))
    assert len(slots.trials) == 27
    best_first = sorted(range(27), key=lambda number: order[number])
    for rung, n_best in ((1, 9), (3, 3)):
        promoted = {number for number, epoch in slots.resumed if epoch == rung}
        assert promoted >= set(best_first[:n_best])
    assert {trial.epoch for trial in slots.trials} == {1, 3, 9}


def test_exactly_a_third_is_promoted_if_the_best_trials_come_first() -> None:
    slots = run_one_by_one(study_of(27), losses(*map(float, range(27))))
    assert sorted(number for number, epoch in slots.resumed if epoch == 1) == list(range(9))
    assert sorted(number for number, epoch in slots.resumed if epoch == 3) == [0, 1, 2]
    assert [n for n, trial in enumerate(slots.trials) if trial.state == "complete"] == [0, 1, 2]


@given(st.data())
def test_every_decision_follows_algorithm_2(data: st.DataObject) -> None:
    """Compares each decision with algorithm 2, recomputed from all results; trials end and fail in any order."""
    factor = data.draw(st.integers(2, 4))
    is_double = data.draw(st.booleans())
    n_trials, n_slots = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 4))
    table = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=n_trials, max_size=n_trials))

    def measures(number: int, epoch: int) -> Mapping[str, float]:
        loss, size = table[number]
        return {"valid_loss": (loss + epoch) % 6, "n_parameters": float(size)}

    study = study_of(n_trials, 9, factor, **({"objectives": TWO} if is_double else {}))
    slots = Slots(study, measures)
    rungs = sorted(slots.policy.decision_epochs)
    reached: dict[int, dict[int, tuple[float, ...]]] = {rung: {} for rung in rungs}

    def expected() -> object:
        for rung in reversed(rungs):
            numbers = sorted(reached[rung])
            order = [numbers[i] for i in ranking([reached[rung][n] for n in numbers])] if numbers else []
            for number in order[: len(numbers) // factor]:
                trial = slots.trials[number]
                if trial.state == "paused" and trial.epoch == rung:
                    return Resume(number)
        if len(slots.trials) < n_trials:
            return Start
        return Wait() if slots.running() else Finished()

    while True:
        while len(slots.running()) < n_slots:
            wanted = expected()
            decision = slots.fill()
            assert isinstance(decision, Start) if wanted is Start else decision == wanted
            if isinstance(decision, Wait | Finished):
                break
        if not slots.running():
            break
        number = data.draw(st.sampled_from(slots.running()))
        trial = slots.trials[number]
        if data.draw(st.integers(0, 5)) == 5:
            next_rung = next((rung for rung in rungs if rung > trial.epoch), None)
            slots.fail(number)
            if next_rung is not None:
                reached[next_rung][number] = (float("inf"),) * (1 + is_double)
        elif slots.train(number) == "paused":
            measured = measures(number, trial.epoch)
            reached[trial.epoch][number] = tuple(measured[o.metric] for o in study.objectives)
    assert len(slots.trials) == n_trials


def test_trials_of_the_highest_rung_are_resumed_first() -> None:
    slots = Slots(study_of(6, factor=2), losses(*map(float, range(6))))
    for _ in range(6):
        slots.fill()
    for number in range(4):
        slots.train(number)
    assert [slots.fill(), slots.fill()] == [Resume(0), Resume(1)]
    for number in (0, 1, 4, 5):
        slots.train(number)
    # The best of the two trials at 2 epochs is promoted, and the third best of the six at 1 epoch.
    assert [slots.fill(), slots.fill()] == [Resume(0), Resume(2)]
    assert slots.resumed == [(0, 1), (1, 1), (0, 2), (2, 1)]


def test_no_more_trials_are_started_than_the_budget_allows() -> None:
    slots = Slots(study_of(4), losses(1.0, 2.0, 3.0, 4.0))
    assert [type(slots.fill()) for _ in range(6)] == [Start] * 4 + [Wait] * 2
    for number in range(4):
        slots.train(number)
    assert slots.fill() == Resume(0)
    assert slots.fill() == Wait()
    slots.train(0)
    assert slots.fill() == Finished(), "a rung with one trial promotes none"


def test_a_failed_trial_counts_in_its_next_rung_and_is_never_promoted() -> None:
    slots = Slots(study_of(3), losses(5.0, 4.0, 3.0))
    for _ in range(3):
        slots.fill()
    slots.fail(1)
    slots.train(0)
    assert slots.fill() == Wait(), "the rung has two trials"
    slots.fail(2)
    assert slots.fill() == Resume(0), "the rung has three trials, of which two failed"
    slots.train(0)
    assert slots.fill() == Finished()


def test_failed_trials_are_never_promoted_even_if_all_fail() -> None:
    slots = Slots(study_of(6), losses(*[1.0] * 6))
    for number in range(6):
        assert isinstance(slots.fill(), Start)
        slots.fail(number)
    assert slots.fill() == Finished()


def test_an_objective_can_be_maximised() -> None:
    accuracy = [0.5, 0.9, 0.7]
    slots = run_one_by_one(
        study_of(3, objectives=[{"metric": "valid_accuracy"}]),
        lambda number, epoch: {"valid_loss": 1.0, "valid_accuracy": accuracy[number]},
    )
    assert slots.resumed == [(1, 1)]


def test_each_grid_point_that_is_not_enqueued_is_visited_once() -> None:
    space = {
        "width": {"type": "int", "low": 8, "high": 64, "step": 8},
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    }
    first = [{"width": 8, "optimizer": "sgd"}, {"width": 64, "optimizer": "adam"}]
    study = study_of(18, sampler="grid", space=space, enqueue=first)
    slots = run_one_by_one(study, losses(*map(float, range(18))))
    found = [tuple(sorted(trial.parameters.items())) for trial in slots.trials]
    assert found[:2] == [tuple(sorted(parameters.items())) for parameters in first]
    assert sorted(map(repr, found[2:])) == sorted(
        repr((("optimizer", optimizer), ("width", width)))
        for optimizer, width in itertools.product(("adam", "sgd"), range(8, 65, 8))
    )


METHODS: dict[str, dict[str, Any]] = {
    "random": {"policy": None},
    "tpe": {"policy": None, "sampler": {"name": "tpe", "n_startup_trials": 4}},
    "tpe, multivariate": {
        "policy": None,
        "sampler": {"name": "tpe", "n_startup_trials": 4, "multivariate": True, "group": True},
    },
    "asha": {},
    "asha with tpe": {"sampler": {"name": "tpe", "n_startup_trials": 4}},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_has_exactly_the_hyperparameters_whose_conditions_hold(method: str) -> None:
    enqueue = [{"optimizer": "adam"}, {"optimizer": "sgd", "depth": 2}]
    study = study_of(30, enqueue=enqueue, **METHODS[method])
    slots = run_one_by_one(study, lambda number, epoch: {"valid_loss": number % 7 + 1 / epoch})
    kinds = set[tuple[str, ...]]()
    for trial in slots.trials:
        expected = {"width", "optimizer", "depth"}
        if trial.parameters["optimizer"] != "adam":
            expected |= {"momentum"}
        if trial.parameters["optimizer"] == "sgd" and trial.parameters["depth"] == 2:
            expected |= {"l2"}
        assert set(trial.parameters) == expected
        kinds.add(tuple(sorted(expected)))
    assert len(kinds) == 3
    assert len(slots.trials) == 30


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_study(read_study(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("min_resource: 0", "policy.min_resource: must be a number from 1 to 1,000,000, not 0"),
        ("min_resource: 1.5", "policy.min_resource: must be a whole number, not 1.5"),
        ("min_resource: true", "policy.min_resource: must be a whole number, not "),
        ("reduction_factor: 1", "policy.reduction_factor: must be a number from 2 to 1,000,000, not 1"),
        ("reduction_factor: three", "policy.reduction_factor: must be a whole number, not 'three'"),
        (
            "reduction_facto: 3",
            "policy.reduction_facto: unknown option; did you mean 'reduction_factor'?; "
            "known are min_resource, reduction_factor",
        ),
    ],
)
def test_an_unknown_or_invalid_option_of_asha_is_refused(write_study: WriteStudy, options: str, message: str) -> None:
    path = write_study("pruner: none", f"policy: {{name: asha, {options}}}")
    assert message in refusal(path)


def test_an_unknown_policy_is_reported_with_the_nearest_one(write_study: WriteStudy) -> None:
    message = refusal(write_study("pruner: none", "policy: ashe"))
    assert "policy.name: unknown policy 'ashe'; did you mean 'asha'?; known are asha" in message


def test_a_policy_with_a_pruner_is_refused(write_study: WriteStudy) -> None:
    message = refusal(write_study("pruner: none", "pruner: median\npolicy: asha"))
    assert "the policy asha and a pruner exclude each other; leave one of them out" in message


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{widht: 32}", "space.dropout.when names widht, which is not in space"),
        ("{depth: 2}", "space.dropout.when names depth, which is not in space"),
        ("{dropout: 0.25}", "space.dropout.when depends on itself, through dropout"),
        ("{width: 48}", "space.dropout.when.width: 48 is outside the search space of width; widen space.width or"),
        ("{width: [32, 48]}", "space.dropout.when.width: 48 is outside the search space of width; widen space.width"),
        ("{}", "space.dropout.when: must name a hyperparameter and the values with which this one is searched"),
        ("{width: [[1]]}", "space.dropout.when.width.0: must be a number, text, true or false, not [1]"),
    ],
)
def test_an_invalid_condition_is_refused(write_study: WriteStudy, when: str, message: str) -> None:
    path = write_study("    step: 0.25\n", f"    step: 0.25\n    when: {when}\n")
    assert message in refusal(path)


def test_circular_conditions_are_refused(write_study: WriteStudy) -> None:
    path = write_study(
        *("    step: 0.25\n", "    step: 0.25\n    when: {width: 32}\n"),
        *("choices: [32, 64]}", "choices: [32, 64], when: {dropout: 0.25}}"),
    )
    assert "when depends on itself, through dropout, width" in refusal(path)


def test_an_enqueued_value_whose_condition_does_not_hold_is_refused(write_study: WriteStudy) -> None:
    path = write_study("    step: 0.25\n", "    step: 0.25\n    when: {width: 64}\n")
    message = refusal(path)
    assert "enqueue.0.dropout: space.dropout.when does not hold for these values; leave dropout out here" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "objective: valid_los",
            "unknown metric 'valid_los'; known are valid_loss, valid_accuracy, n_parameters, flop",
        ),
        ("objectives: [{metric: loss}]", "unknown metric 'loss'; known are valid_loss, valid_accuracy, n_parameters,"),
        (
            "objective: valid_loss\nobjectives: [{metric: flops}]",
            "objective and objectives exclude each other; leave one of them out",
        ),
        (
            "objectives: [{metric: valid_loss}, {metric: flops}, {metric: valid_loss}]",
            "objectives must differ: valid_loss is listed twice",
        ),
        ("objectives: []", "objectives: must not be empty"),
        ("objectives: [{metric: flops, direction: down}]", "direction: must be 'minimize' or 'maximize', not 'down'"),
        (
            "objectives: [{metric: valid_loss}, {metric: flops}]\npruner: median",
            "pruner: median compares one objective; with several, use none or successive_halving, or a policy",
        ),
        (
            "objective: n_parameters\npruner: median",
            "pruner: prunes by valid_loss or valid_accuracy; name one of them as an objective",
        ),
    ],
)
def test_invalid_objectives_are_refused(write_study: WriteStudy, text: str, message: str) -> None:
    assert message in refusal(write_study("pruner: none", text))
