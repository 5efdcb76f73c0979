"""Jobs stop only at epochs where the pruner can decide, so these must be known exactly."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_driver import Driver

from mnist_hpo.search.decision_epochs import decision_epochs
from mnist_hpo.spec.study import Study

MEDIAN = st.fixed_dictionaries(
    {"name": st.just("median")},
    optional={
        "n_startup_trials": st.integers(0, 4),
        "n_warmup_steps": st.integers(0, 12),
        "interval_steps": st.integers(1, 6),
        "n_min_trials": st.integers(1, 3),
    },
)
HYPERBAND = st.fixed_dictionaries(
    {"name": st.just("hyperband")},
    optional={
        "min_resource": st.integers(1, 6),
        "max_resource": st.integers(6, 30),
        "reduction_factor": st.integers(2, 5),
        "bootstrap_count": st.integers(0, 3),
    },
)
HALVING = st.fixed_dictionaries(
    {"name": st.just("successive_halving")},
    optional={
        "min_resource": st.integers(1, 6),
        "reduction_factor": st.integers(2, 5),
        "min_early_stopping_rate": st.integers(0, 3),
        "bootstrap_count": st.integers(0, 3),
    },
)
PERCENTILE = st.builds(
    lambda options, percentile: {**options, "name": "percentile", "percentile": percentile},
    MEDIAN,
    st.sampled_from([0.0, 10.0, 50.0, 100.0]),
)
THRESHOLD = st.fixed_dictionaries(
    {"name": st.just("threshold"), "upper": st.sampled_from([0.2, 0.9])},
    optional={"lower": st.just(0.1), "n_warmup_steps": st.integers(0, 12), "interval_steps": st.integers(1, 6)},
)
WILCOXON = st.fixed_dictionaries(
    {"name": st.just("wilcoxon")},
    optional={"p_threshold": st.sampled_from([0.1, 0.5]), "n_startup_steps": st.integers(0, 6)},
)
NOT_PATIENT = [MEDIAN, HYPERBAND, HALVING, PERCENTILE, THRESHOLD, WILCOXON]
PATIENT = st.fixed_dictionaries(
    {"name": st.just("patient")},
    optional={
        "patience": st.integers(0, 5),
        "min_delta": st.sampled_from([0.0, 0.1]),
        "wraps": st.one_of(st.none(), *NOT_PATIENT),
    },
)
PRUNER = st.one_of(*NOT_PATIENT, PATIENT)


def study_of(pruner: object, max_epochs: int) -> Study:
    space = {"dropout": {"type": "float", "low": 0, "high": 0.5}}
    budget = {"n_trials": 12, "max_epochs": max_epochs}
    return Study.model_validate({"name": "s", "budget": budget, "space": space, "sampler": "random", "pruner": pruner})


def epochs_where_trials_are_pruned(study: Study, seed: int) -> set[int]:
    """Run Optuna's pruner on random losses, after every epoch, with up to three trials at a time."""
    draw = random.Random(seed)
    driver, pruned_at, epochs = Driver(study), set[int](), dict[int, int]()
    while epochs or driver.n_started < study.budget.n_trials:
        if len(epochs) < 3 and driver.n_started < study.budget.n_trials:
            epochs[driver.start().number] = 0
        number = draw.choice(sorted(epochs))
        epochs[number] += 1
        if driver.report(number, epochs[number], draw.random() + number * draw.choice((-0.1, 0, 0.1))):
            pruned_at.add(epochs.pop(number))
            driver.prune(number)
        elif epochs[number] == study.budget.max_epochs:
            del epochs[number]
            driver.complete(number, draw.random())
    return pruned_at


@settings(max_examples=200)
@given(PRUNER, st.integers(1, 20), st.integers(0, 2**32))
def test_optuna_prunes_only_at_decision_epochs(pruner: dict[str, object], max_epochs: int, seed: int) -> None:
    study = study_of(pruner, max_epochs)
    assert epochs_where_trials_are_pruned(study, seed) <= decision_epochs(study)


@pytest.mark.parametrize(
    "pruner",
    [
        {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 4, "interval_steps": 3},
        {"name": "hyperband", "reduction_factor": 3},
        {"name": "successive_halving", "min_resource": 2, "reduction_factor": 2},
        {"name": "percentile", "n_startup_trials": 1, "n_warmup_steps": 4, "interval_steps": 3},
        {"name": "threshold", "upper": 0.9, "n_warmup_steps": 4, "interval_steps": 3},
        {"name": "wilcoxon", "p_threshold": 0.4},
        {"name": "patient", "patience": 2},
        {"name": "patient", "patience": 2, "wraps": {"name": "median", "n_startup_trials": 1, "interval_steps": 3}},
        {"name": "patient", "patience": 2, "wraps": {"name": "successive_halving", "reduction_factor": 2}},
    ],
    ids=str,
)
def test_some_trial_is_pruned_at_every_decision_epoch(pruner: object) -> None:
    """There are no more decision epochs than needed: a job that stops often is slow."""
    study, seen = study_of(pruner, 13), set[int]()
    for seed in range(60):
        seen |= epochs_where_trials_are_pruned(study, seed)
        if seen == decision_epochs(study):
            return
    raise AssertionError(seen)


def test_without_a_pruner_there_are_no_decision_epochs() -> None:
    assert decision_epochs(study_of("none", 30)) == frozenset()


def test_the_rungs_of_hyperband_and_successive_halving() -> None:
    assert decision_epochs(study_of("hyperband", 30)) == {1, 3, 9, 27}
    assert decision_epochs(study_of("successive_halving", 30)) == {1, 4, 16}


@settings(max_examples=100)
@given(PRUNER, st.integers(0, 2**32))
def test_pruning_uses_only_lower_numbered_trials(pruner: dict[str, object], seed: int) -> None:
    """Otherwise the trials that a larger budget adds would change the earlier ones."""

    def decisions(n_trials: int) -> list[bool]:
        study, draw = study_of(pruner, 12), random.Random(seed)
        driver = Driver(study)
        pruned_by_epoch: list[bool] = []
        live = [driver.start().number for _ in range(n_trials)]
        losses = [[draw.random() for _ in range(12)] for _ in range(8)]
        for epoch in range(1, 13):
            # Higher-numbered trials report first.
            for number in sorted(live, reverse=True):
                pruned = driver.report(number, epoch, losses[number][epoch - 1])
                pruned_by_epoch += [pruned] if number < 4 else []
                if pruned:
                    live.remove(number)
                    driver.prune(number)
                elif epoch == 3 + number:
                    live.remove(number)
                    driver.complete(number, min(losses[number]))
        return pruned_by_epoch

    assert decisions(4) == decisions(8)


def test_the_wilcoxon_pruner_compares_with_the_best_of_the_lower_numbered_trials() -> None:
    """A better trial with a higher number may end first, but a shorter study does not have it."""
    for number_asked, pruned in ((1, False), (3, True)):
        driver = Driver(study_of({"name": "wilcoxon", "p_threshold": 0.2}, 12))
        for number, loss in ((0, 0.5), (2, 0.1)):
            while driver.n_started <= number:
                driver.start()
            for epoch in range(1, 6):
                driver.report(number, epoch, loss)
            driver.complete(number, loss)
        driver.start()
        assert any(driver.report(number_asked, epoch, 0.3) for epoch in range(1, 6)) == pruned
