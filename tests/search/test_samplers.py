"""What holds for every sampler, and what each of ours promises on its own."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from policy_driver import Driver
from scipy.stats import qmc

from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.make_sampler import SAMPLERS, SINGLE_OBJECTIVE_SAMPLERS
from mnist_hpo.search.pareto import fronts
from mnist_hpo.search.policy import Start
from mnist_hpo.search.space import holds
from mnist_hpo.spec.study import ParameterValue, Study

Parameters = Mapping[str, ParameterValue]
Loss = Callable[[Parameters], float]

UNIT = {"type": "float", "low": 0.0, "high": 1.0}
CONDITIONAL: dict[str, Any] = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "rmsprop"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "l2": {"type": "float", "low": 1e-6, "high": 1e-3, "log": True, "when": {"optimizer": "sgd", "depth": 2}},
    "depth": {"type": "int", "low": 1, "high": 3},
    "width": {"type": "int", "low": 8, "high": 512, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
}
SMALL = {
    "gp": {"n_startup_trials": 5, "n_candidates": 64},
    "cmaes": {"population_size": 5},
    "genetic": {"population_size": 5},
    "nsgaii": {"population_size": 5},
    "nsgaiii": {"population_size": 5},
}
OURS = ["qmc", "gp", "cmaes", "genetic", "nsgaii", "nsgaiii"]
LEARNING = ["tpe", "gp", "cmaes", "genetic", "nsgaii", "nsgaiii"]


def study_of(sampler: object, space: Mapping[str, object], **fields: object) -> Study:
    base = {"name": "s", "budget": {"n_trials": 1000, "max_epochs": 1}, "space": space, "sampler": sampler}
    return Study.model_validate(base | fields)


def small(sampler: str) -> dict[str, object]:
    """Return a sampler that learns after few trials."""
    return {"name": sampler, **SMALL.get(sampler, {})}


def run(study: Study, loss: Loss, n_trials: int, n_slots: int = 1) -> list[Parameters]:
    """Return what is proposed with so many trials at once, each of which takes as long; infinite losses fail."""
    driver, running, proposed = Driver(study), [], []
    for number in range(n_trials):
        running.append(driver.start())
        proposed.append(running[-1].parameters)
        while len(running) == n_slots or (running and number == n_trials - 1):
            trial = running.pop(0)
            value = loss(trial.parameters)
            if math.isinf(value):
                driver.fail(trial.number, 1)
            else:
                driver.report(trial.number, 1, value)
                driver.complete(trial.number, value)
    return proposed


def conditional_loss(parameters: Parameters) -> float:
    best = {"optimizer": "sgd", "depth": 2, "width": 100, "dropout": 0.3, "momentum": 0.9, "l2": 1e-4}
    away = sum(parameters.get(name) != value for name, value in best.items() if isinstance(value, str))
    numbers = {name: float(value) for name, value in parameters.items() if not isinstance(value, str)}
    return away + sum(abs(math.log(number / float(best[name]))) for name, number in numbers.items() if number)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_a_trial_has_the_hyperparameters_whose_condition_holds(sampler: str) -> None:
    first = [{"optimizer": "sgd", "depth": 2}, {"optimizer": "adam"}, {"width": 9, "dropout": 0.1}]
    study = study_of(small(sampler), CONDITIONAL, enqueue=first)
    proposed = run(study, conditional_loss, 40, n_slots=3)
    for parameters in proposed:
        assert parameters.keys() == {name for name, entry in study.space.items() if entry.is_active(parameters)}
        assert all(holds(study.space[name], value) for name, value in parameters.items())
    for given, parameters in zip(first, proposed, strict=False):
        assert given.items() <= parameters.items()
    assert proposed[0].keys() == CONDITIONAL.keys(), "what is not enqueued is filled in"
    assert len({tuple(parameters.items()) for parameters in proposed}) >= 38


@pytest.mark.parametrize("sampler", OURS)
def test_values_with_a_step_are_those_of_the_file(sampler: str) -> None:
    space = {"dropout": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}, "l2": UNIT}
    values = {
        parameters["dropout"] for parameters in run(study_of(small(sampler), space), lambda p: float(p["l2"]), 60)
    }
    assert values <= {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    assert len(values) >= 4


@pytest.mark.parametrize("sampler", LEARNING)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_objectives_direction_counts(sampler: str, direction: str) -> None:
    study = study_of(small(sampler), {"dropout": UNIT}, objectives=[{"metric": "valid_loss", "direction": direction}])
    late = [float(parameters["dropout"]) for parameters in run(study, lambda p: float(p["dropout"]), 40)[30:]]
    assert np.median(late) < 0.2 if direction == "minimize" else np.median(late) > 0.8


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_sampler_avoids_where_trials_fail(sampler: str) -> None:
    """Losses fall towards 1, but from 0.7 on trials diverge."""
    study = study_of(small(sampler), {"dropout": UNIT, "l2": UNIT})

    def loss(parameters: Parameters) -> float:
        return -float(parameters["dropout"]) if float(parameters["dropout"]) < 0.7 else math.inf

    late = [float(parameters["dropout"]) for parameters in run(study, loss, 60)[40:]]
    assert sum(value >= 0.7 for value in late) <= 10
    assert np.median(late) > 0.5


# The quality of the samplers: six hyperparameters of several kinds, 100 trials, 4 of them at once.

SIX: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.9},
    "l1": {"type": "float", "low": 1e-8, "high": 1e-2, "log": True},
    "l2": {"type": "float", "low": 1e-8, "high": 1e-2, "log": True},
    "width": {"type": "int", "low": 8, "high": 1024, "log": True},
    "activation": {"type": "categorical", "choices": ["relu", "gelu", "silu", "tanh"]},
}
OPTIMUM = {"learning_rate": 0.37, "dropout": 0.21, "l1": 0.72, "l2": 0.44, "width": 0.81}


def six_dimensional_loss(parameters: Parameters) -> float:
    """A quadratic with different curvatures, one interaction and an offset for each choice. Its minimum is 0."""
    away = dict[str, float]()
    for name, optimum in OPTIMUM.items():
        entry, value = SIX[name], float(parameters[name])
        low, high = entry["low"], entry["high"]
        share = math.log(value / low) / math.log(high / low) if "log" in entry else (value - low) / (high - low)
        away[name] = share - optimum
    offset = {"relu": 0.1, "gelu": 0.0, "silu": 0.05, "tanh": 0.3}[str(parameters["activation"])]
    curved = sum((index + 1) * distance**2 for index, distance in enumerate(away.values()))
    return curved + away["learning_rate"] * away["l2"] + offset


def mean_lowest_loss(sampler: object, n_seeds: int) -> float:
    lowest = list[float]()
    for seed in range(n_seeds):
        study = study_of(sampler, SIX, seed=seed)
        lowest.append(min(six_dimensional_loss(p) for p in run(study, six_dimensional_loss, 100, n_slots=4)))
    return float(np.mean(lowest))


@pytest.fixture(scope="module")
def random_search() -> float:
    return mean_lowest_loss("random", 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "most"),
    [("genetic", 0.75), ("nsgaii", 0.75), ("nsgaiii", 0.75), ("cmaes", 0.5), ("qmc", 1.1)],
)
def test_a_sampler_finds_lower_losses_than_random_search(random_search: float, sampler: str, most: float) -> None:
    """`most`: of the mean lowest loss of random search. Quasi-Monte Carlo is as good as random search here."""
    assert mean_lowest_loss(sampler, 30 if sampler == "qmc" else 8) < most * random_search


@pytest.mark.slow
def test_the_gaussian_process_finds_much_lower_losses_than_random_search(random_search: float) -> None:
    assert mean_lowest_loss({"name": "gp", "n_candidates": 128}, 1) < 0.05 * random_search


# Quasi-Monte Carlo.


def test_qmc_is_one_sequence_over_the_study() -> None:
    """Of 64 points of a scrambled Sobol sequence, one is in each of the 64 equal parts of each range."""
    space = {"dropout": UNIT, "l1": UNIT, "l2": UNIT}
    points = np.array([list(parameters.values()) for parameters in run(study_of("qmc", space), lambda _: 0.0, 64)])
    assert (np.sort(np.floor(points * 64), axis=0) == np.arange(64)[:, None]).all()


@pytest.mark.parametrize(("kind", "sequence"), [("sobol", qmc.Sobol), ("halton", qmc.Halton)])
def test_qmc_without_scrambling_is_the_plain_sequence(kind: str, sequence: Any) -> None:
    for seed in (0, 1):
        sampler = {"name": "qmc", "qmc_type": kind, "scramble": False}
        study = study_of(sampler, {"dropout": UNIT, "l1": UNIT}, seed=seed)
        points = [[parameters["dropout"], parameters["l1"]] for parameters in run(study, lambda _: 0.0, 16)]
        np.testing.assert_allclose(points, sequence(2, scramble=False).random(16))


@pytest.mark.parametrize("kind", ["sobol", "halton"])
def test_an_enqueued_trial_takes_the_place_of_a_point(kind: str) -> None:
    sampler = {"name": "qmc", "qmc_type": kind}
    plain = run(study_of(sampler, {"dropout": UNIT}), lambda _: 0.0, 6)
    given = study_of(sampler, {"dropout": UNIT}, enqueue=[{"dropout": 0.5}, {"dropout": 0.25}])
    assert run(given, lambda _: 0.0, 6)[2:] == plain[2:]


# Evolution.


@pytest.mark.parametrize("sampler", ["cmaes", "genetic", "nsgaii", "nsgaiii"])
def test_a_generation_does_not_depend_on_its_own_trials(sampler: str) -> None:
    """A generation is five trials here: losses of trials 5 to 9 affect trials from 10 on."""
    space = {"dropout": UNIT, "l1": UNIT}

    def proposals(turned: bool) -> list[Parameters]:
        driver, proposed = Driver(study_of(small(sampler), space)), []
        for number in range(15):
            proposed.append(driver.start().parameters)
            loss = float(proposed[-1]["dropout"])
            driver.complete(number, -loss if turned and number >= 5 else loss)
        return proposed

    first, second = proposals(False), proposals(True)
    assert first[:10] == second[:10]
    assert first[10:] != second[10:]


def test_cmaes_adapts_to_the_scales_and_the_correlation_of_an_ellipsoid() -> None:
    names = ("dropout", "l1", "l2")

    def loss(parameters: Parameters) -> float:
        x, y, z = (float(parameters[name]) - 0.4 for name in names)
        return (x + y) ** 2 + 100 * (x - y) ** 2 + 1000 * z**2

    study = study_of("cmaes", dict.fromkeys(names, UNIT))
    assert min(map(loss, run(study, loss, 500)[-50:])) < 1e-7


# Several objectives.


def two_objectives(sampler: object, seed: int, n_trials: int) -> list[tuple[float, float]]:
    """Return the objectives of a study that trades dropout against l1; other hyperparameters only do harm."""
    space = dict.fromkeys(("dropout", "l1", "l2", "learning_rate", "momentum"), UNIT)
    study = study_of(sampler, space, seed=seed, objectives=[{"metric": "valid_loss"}, {"metric": "flops"}])
    policy, found = make_policy(study), list[tuple[float, float]]()
    for number in range(n_trials):
        asked = policy.next()
        assert isinstance(asked, Start)
        x, *others = (float(asked.parameters[name]) for name in space)
        harm = sum((other - 0.3) ** 2 for other in others)
        found.append((x**2 + harm, (1 - x) ** 2 + harm))
        policy.on_complete(number, {"valid_loss": found[-1][0], "flops": found[-1][1]})
    return found


def dominated_area(points: list[tuple[float, float]]) -> float:
    """Return the area that points dominate in the square from 0 to 2."""
    area, height = 0.0, 2.0
    for x, y in sorted(points[index] for index in fronts(points)[0]):
        area += max(0.0, 2 - x) * max(0.0, height - y)
        height = min(height, y)
    return area


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["nsgaii", "nsgaiii"])
def test_the_front_is_better_than_that_of_random_search(sampler: str) -> None:
    areas = {
        name: np.mean([dominated_area(two_objectives(name, seed, 100)) for seed in range(4)])
        for name in (sampler, "random")
    }
    assert areas[sampler] > areas["random"] + 0.1


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in (*SINGLE_OBJECTIVE_SAMPLERS, "grid")])
def test_several_objectives_are_reproducible(sampler: str) -> None:
    assert two_objectives(sampler, 0, 30) == two_objectives(sampler, 0, 30)
