"""A sampler's proposals and a pruner's decisions depend only on the study and on the results reported so far."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from policy_driver import Driver

from mnist_hpo.search.space import holds
from mnist_hpo.spec.study import ParameterValue, Study

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
    "width": {"type": "categorical", "choices": [32, 64, 128]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "depth": {"type": "int", "low": 1, "high": 3},
}
GRID = {
    "learning_rate": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1},
    "width": {"type": "categorical", "choices": [32, 64, 128]},
    "depth": {"type": "int", "low": 1, "high": 3, "step": 2},
}
SAMPLERS = [
    "tpe",
    "random",
    {"name": "tpe", "n_startup_trials": 3, "multivariate": True, "constant_liar": True},
    "qmc",
    {"name": "qmc", "qmc_type": "halton"},
    {"name": "gp", "n_startup_trials": 4, "n_candidates": 64},
    {"name": "cmaes", "population_size": 4},
    {"name": "genetic", "population_size": 4},
    {"name": "nsgaii", "population_size": 4},
    {"name": "nsgaiii", "population_size": 4},
]
PRUNERS: list[object] = [
    *("median", "percentile", "hyperband", "successive_halving", "patient"),
    {"name": "threshold", "upper": 3.0},
    {"name": "wilcoxon", "p_threshold": 0.3},
    {"name": "patient", "patience": 1, "wraps": "median"},
]

Point = tuple[tuple[str, ParameterValue], ...]


def study_of(**fields: object) -> Study:
    return Study.model_validate(
        {"name": "s", "budget": {"n_trials": 1000, "max_epochs": 9}, "space": SPACE, "sampler": "random"} | fields
    )


def loss_of(parameters: Mapping[str, ParameterValue], epoch: int) -> float:
    away = abs(math.log10(float(parameters["learning_rate"])) + 2.5)
    return away + 1 / float(parameters["width"]) + 1 / epoch


def run_one_by_one(study: Study, n_trials: int) -> list[dict[str, ParameterValue]]:
    """Return what is proposed if each trial ends before the next one starts."""
    driver, proposed = Driver(study), []
    for _ in range(n_trials):
        proposal = driver.start()
        proposed.append(proposal.parameters)
        losses = []
        for epoch in range(1, study.budget.max_epochs + 1):
            losses.append(loss_of(proposal.parameters, epoch))
            if driver.report(proposal.number, epoch, losses[-1]):
                driver.prune(proposal.number)
                break
        else:
            driver.complete(proposal.number, min(losses))
    return proposed


def point_of(parameters: Mapping[str, ParameterValue]) -> Point:
    return tuple(sorted(parameters.items()))


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband", "successive_halving"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_are_reproducible(sampler: object, pruner: str) -> None:
    study = study_of(sampler=sampler, pruner=pruner)
    first, second = run_one_by_one(study, 25), run_one_by_one(study, 25)
    assert [point_of(p) for p in first] == [point_of(p) for p in second]
    assert len({point_of(p) for p in first}) == 25


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
def test_proposals_do_not_depend_on_the_number_of_trials(sampler: object) -> None:
    """An extended study continues like one that had the larger budget from the start."""
    space = GRID if sampler == "grid" else SPACE
    short = study_of(sampler=sampler, space=space, budget={"n_trials": 12, "max_epochs": 9})
    long = study_of(sampler=sampler, space=space, budget={"n_trials": 24, "max_epochs": 9})
    assert run_one_by_one(short, 12) == run_one_by_one(long, 24)[:12]


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
def test_proposals_depend_on_the_seed(sampler: object) -> None:
    space = GRID if sampler == "grid" else SPACE
    first, second = (run_one_by_one(study_of(sampler=sampler, space=space, seed=seed), 8) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
def test_proposals_do_not_depend_on_the_order_of_the_space(sampler: object) -> None:
    space = GRID if sampler == "grid" else SPACE
    study = study_of(sampler=sampler, space=space)
    turned = study_of(sampler=sampler, space=dict(reversed(space.items())))
    assert study.sha256() == turned.sha256()
    assert run_one_by_one(study, 12) == run_one_by_one(turned, 12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_are_within_the_space(sampler: object) -> None:
    study = study_of(sampler=sampler)
    for parameters in run_one_by_one(study, 30):
        assert parameters.keys() == study.space.keys()
        assert all(holds(study.space[name], value) for name, value in parameters.items())


def test_random_proposals_cover_the_space_evenly() -> None:
    proposed = run_one_by_one(study_of(pruner="none"), 600)
    decades = np.histogram([math.log10(float(p["learning_rate"])) for p in proposed], bins=3, range=(-4, -1))[0]
    widths, depths = (Counter(p[name] for p in proposed) for name in ("width", "depth"))
    for counts in (list(decades), list(widths.values()), list(depths.values())):
        assert len(counts) == 3
        assert min(counts) > 150  # 200 ± 11.5: the bounds are over four standard deviations away


def test_tpe_finds_the_region_of_low_losses() -> None:
    proposed = run_one_by_one(study_of(sampler="tpe"), 40)
    away = [abs(math.log10(float(p["learning_rate"])) + 2.5) for p in proposed]
    assert np.median(away[20:]) < np.median(away[:10]) / 2


def test_a_grid_visits_each_point_once() -> None:
    proposed = run_one_by_one(study_of(sampler="grid", space=GRID), 42)
    points = [point_of(p) for p in proposed]
    assert len(set(points)) == 42 == len(points)
    rates = sorted({float(p["learning_rate"]) for p in proposed})
    assert rates == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], "bit for bit as written"
    assert {(p["width"], p["depth"]) for p in proposed} == set(itertools.product((32, 64, 128), (1, 3)))
    assert points != sorted(points), "the order depends on the seed"


def test_a_grid_visits_each_point_that_is_not_enqueued_once() -> None:
    first = [
        {"learning_rate": 0.1, "width": 64, "depth": 3},
        {"learning_rate": 0.2, "width": 32, "depth": 1},
        {"learning_rate": 0.1, "width": 64, "depth": 3},
    ]
    study = study_of(sampler="grid", space=GRID, enqueue=first)
    proposed = run_one_by_one(study, 45)
    assert proposed[:3] == [{name: parameters[name] for name in sorted(parameters)} for parameters in first]
    assert len({point_of(p) for p in proposed[3:]}) == 42


def test_a_grid_visits_each_point_once_with_many_concurrent_trials() -> None:
    driver = Driver(study_of(sampler="grid", space=GRID, enqueue=[{"learning_rate": 0.1, "width": 64, "depth": 3}]))
    in_flight = [driver.start() for _ in range(6)]
    proposed = list(in_flight)
    for _ in range(37):
        ended = in_flight.pop(len(proposed) % 6)
        driver.complete(ended.number, 1.0)
        in_flight.append(driver.start())
        proposed.append(in_flight[-1])
    assert len({point_of(p.parameters) for p in proposed[1:]}) == 42


def test_enqueued_trials_come_first_and_the_sampler_completes_them() -> None:
    first = [{"learning_rate": 0.02, "width": 128, "dropout": 0.5, "depth": 1}, {"width": 64}]
    study = study_of(enqueue=first, fixed={"l2": 0.0})
    proposed = run_one_by_one(study, 3)
    assert proposed[0] == first[0]
    assert proposed[1]["width"] == 64
    assert proposed[1].keys() == SPACE.keys()
    assert proposed[2] != proposed[1]


def test_an_enqueued_trial_may_repeat_a_fixed_value() -> None:
    study = study_of(enqueue=[{"width": 64, "l2": 0.001}], fixed={"l2": 0.001})
    assert "l2" not in run_one_by_one(study, 1)[0]


def test_a_sampler_learns_from_failed_trials() -> None:
    """Losses fall towards higher rates until trials diverge; a sampler that ignores failures goes there 18 times."""
    driver, rates = Driver(study_of(sampler="tpe")), []
    for _ in range(40):
        proposal = driver.start()
        rates.append(float(proposal.parameters["learning_rate"]))
        if rates[-1] > 0.01:
            driver.fail(proposal.number, 1)
        else:
            driver.report(proposal.number, 1, -rates[-1])
            driver.complete(proposal.number, -rates[-1])
    assert sum(rate > 0.01 for rate in rates[:10]) >= 2, "the beginning is random"
    assert sum(rate > 0.01 for rate in rates[-20:]) <= 12


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_a_hopeless_trial_is_pruned(pruner: object) -> None:
    driver = Driver(study_of(pruner=pruner))
    n_pruned = 0
    for number in range(30):
        driver.start()
        loss = 0.1 if number < 15 else 5.0
        for epoch in range(1, 10):
            # Good trials improve with each epoch, and bad ones get worse.
            change = 0.01 * (epoch if loss > 1 else -epoch)
            if driver.report(number, epoch, loss + change + 0.001 * number):
                driver.prune(number)
                n_pruned += number >= 15
                break
        else:
            driver.complete(number, loss)
    assert n_pruned >= 10
