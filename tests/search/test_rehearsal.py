"""Options that Optuna would refuse in the middle of a study are refused before it starts, by name."""

import itertools
import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from mnist_hpo.search.check import check_study
from mnist_hpo.search.decision_epochs import decision_epochs
from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.make_sampler import SAMPLERS
from mnist_hpo.search.pruners import PRUNERS
from mnist_hpo.search.rehearsal import _invented_measures, rehearse
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import StudyFile, read_study

StudyOf = Callable[..., StudyFile]

LATE = [
    ("tpe", "n_ei_candidates", "0", "1 to 10,000"),
    ("tpe", "n_ei_candidates", "1000000000000", "1 to 10,000"),
    ("tpe", "prior_weight", "-1", "0 to 1,000,000"),
    ("tpe", "prior_weight", "-1.0", "0 to 1,000,000"),
    ("tpe", "n_startup_trials", "-5", "0 to 1,000,000"),
    ("median", "n_startup_trials", "-1", "0 to 1,000,000"),
    ("median", "n_min_trials", "0", "1 to 1,000,000"),
    ("hyperband", "reduction_factor", "0", "2 to 1,000,000"),
    ("hyperband", "reduction_factor", "1", "2 to 1,000,000"),
    ("hyperband", "min_resource", "0", "1 to 1,000,000"),
    ("hyperband", "max_resource", "0", "1 to 1,000,000"),
    ("hyperband", "max_resource", "-3", "1 to 1,000,000"),
    ("hyperband", "bootstrap_count", "-2", "0 to 1,000,000"),
    ("hyperband", "bootstrap_count", "1000000000", "0 to 1,000,000"),
    ("successive_halving", "reduction_factor", "1", "2 to 1,000,000"),
    ("successive_halving", "min_resource", "0", "1 to 1,000,000"),
    ("successive_halving", "min_early_stopping_rate", "1000000000", "0 to 20"),
    ("successive_halving", "bootstrap_count", "-2", "0 to 1,000,000"),
    ("gp", "n_candidates", "15", "16 to 100,000"),
    ("gp", "max_points", "2001", "10 to 2,000"),
    ("cmaes", "population_size", "1", "2 to 10,000"),
    ("cmaes", "sigma0", "0.0", "0.001 to 1"),
    ("genetic", "mutation_prob", "1.5", "0 to 1"),
    ("nsgaii", "crossover_prob", "-0.1", "0 to 1"),
    ("nsgaii", "swapping_prob", "2", "0 to 1"),
    ("nsgaiii", "dividing_parameter", "0", "1 to 20"),
    ("percentile", "percentile", "101.0", "0 to 100"),
    ("threshold", "n_warmup_steps", "-1", "0 to 1,000,000"),
    ("wilcoxon", "p_threshold", "1.5", "0 to 1"),
    ("wilcoxon", "n_startup_steps", "-1", "0 to 1,000,000"),
    ("patient", "patience", "-1", "0 to 1,000,000"),
    ("patient", "min_delta", "-0.5", "0 to 1e+300"),
]


def change(method: str, options: str) -> tuple[str, str]:
    old = "sampler: random" if method in SAMPLERS else "pruner: none"
    return old, f"{old.split(':')[0]}: {{name: {method}, {options}}}"


def refusal(file: StudyFile) -> str:
    with pytest.raises(UserError) as caught:
        check_study(file)
    return str(caught.value)


@pytest.mark.parametrize(("method", "option", "value", "limits"), LATE)
def test_a_value_out_of_range_is_refused_with_the_limits(
    study_of: StudyOf, method: str, option: str, value: str, limits: str
) -> None:
    old, new = change(method, f"{option}: {value}")
    file = study_of(old, new)
    line = 1 + file.text.splitlines().index(new)
    where = f"{file.path}, line {line}: {old.split(':')[0]}.{option}"
    assert refusal(file).startswith(f"{where}: must be a number from {limits}, not ")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("hyperband", "min_resource: 10", "pruner.min_resource: min_resource (10) is greater than max_resource (9)"),
        (
            "hyperband",
            "min_resource: 3, max_resource: 2",
            "pruner.min_resource: min_resource (3) is greater than max_resource (2)",
        ),
        ("hyperband", "bootstrap_count: 4", "pruner.bootstrap_count: 4 trials must reach a rung before one can"),
        ("successive_halving", "bootstrap_count: 7", "budget.n_trials is 4: every trial would be pruned"),
        (
            "patient",
            "wraps: {name: hyperband, min_resource: 10}",
            "pruner.wraps.min_resource: min_resource (10) is greater than max_resource (9)",
        ),
    ],
)
def test_a_pruner_that_prunes_nothing_or_everything_is_refused(
    study_of: StudyOf, method: str, options: str, message: str
) -> None:
    assert message in refusal(study_of(*change(method, options)))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("tpe", "n_ei_candidates: 1"),
        ("tpe", "n_ei_candidates: 10000"),
        ("tpe", "prior_weight: 0"),
        ("tpe", "prior_weight: 0.5, consider_endpoints: true, consider_magic_clip: false"),
        ("tpe", "n_startup_trials: 0"),
        ("tpe", "n_startup_trials: 1000000, group: true, multivariate: true, warn_independent_sampling: true"),
        ("median", "n_startup_trials: 0, n_warmup_steps: 1000000, interval_steps: 1000000"),
        ("hyperband", "max_resource: 1000000, reduction_factor: 2"),
        ("hyperband", "min_resource: 9, max_resource: 9, reduction_factor: 1000000, bootstrap_count: 3"),
        ("successive_halving", "min_early_stopping_rate: 20, reduction_factor: 1000000, min_resource: 1000000"),
        ("qmc", "qmc_type: halton, scramble: false"),
        ("qmc", "qmc_type: sobol, scramble: true"),
        ("gp", "n_startup_trials: 0, n_candidates: 100000, max_points: 10"),
        ("cmaes", "population_size: 10000, sigma0: 1"),
        ("genetic", "population_size: 2, crossover_prob: 0, swapping_prob: 1, mutation_prob: 0.0"),
        ("nsgaii", "population_size: 10000"),
        ("nsgaiii", "dividing_parameter: 20"),
        ("percentile", "percentile: 0.0, n_min_trials: 3"),
        ("threshold", "lower: 0, upper: 10, n_warmup_steps: 2, interval_steps: 2"),
        ("wilcoxon", "p_threshold: 0.0, n_startup_steps: 1000000"),
        ("patient", "patience: 1000000, min_delta: 0.1"),
        ("patient", "wraps: hyperband, patience: 0"),
        ("patient", "wraps: {name: percentile, percentile: 50, n_startup_trials: 1000000}"),
    ],
)
def test_valid_options_are_accepted_without_output(
    study_of: StudyOf, method: str, options: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna_logger = logging.getLogger("optuna")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        propagated, optuna_logger.propagate = optuna_logger.propagate, True
        try:
            check_study(study_of(*change(method, options), "n_trials: 4", "n_trials: 40"))
        finally:
            optuna_logger.propagate = propagated
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize("path", sorted(Path("studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_rehearsal_does_not_change_the_search(path: Path) -> None:
    study = read_study(path).study

    def proposals() -> list[str]:
        policy = make_policy(study)
        found: list[str] = []
        for number in range(min(8, study.budget.n_trials)):
            found.append(repr(policy.next()))
            metrics = {"valid_loss": number / 8, "valid_accuracy": 0.5, "n_parameters": 10.0 + number, "flops": 20.0}
            policy.on_epoch(number, 2, metrics)
            policy.on_complete(number, metrics)
        return found

    before = proposals()
    rehearse(study)
    assert proposals() == before


class FailsLate(RandomSampler):
    """Raises after `limit` trials, as a plug-in might."""

    def __init__(self, seed: int, limit: int = 100, step: float = 1.0) -> None:
        super().__init__(seed)
        self._limit, self._step = limit, step

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        if trial.number >= self._limit:
            return [][trial.number]
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return math.nan if self._step < 0 and isinstance(value, float) else value


class NeverAgain(BasePruner):
    """A pruner that raises once a trial is complete."""

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        assert trial.number < 4, "no trial after the fourth"
        return False


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("late", "limit: 5", "sampler.limit: Optuna cannot search with this: list index out of range"),
        ("late", "step: 2.0, limit: 5", "sampler.limit: Optuna cannot search with this: list index out of range"),
        ("late", "step: -1.0", "sampler.step: Optuna cannot search with this: `nan` is invalid value."),
        ("never", "", "pruner: Optuna cannot search with this: no trial after the fourth"),
    ],
)
def test_an_error_late_in_the_rehearsal_names_the_option_or_the_section(
    study_of: StudyOf, monkeypatch: pytest.MonkeyPatch, method: str, options: str, message: str
) -> None:
    monkeypatch.setitem(SAMPLERS, "late", FailsLate)  # type: ignore[arg-type]
    monkeypatch.setitem(PRUNERS, "never", NeverAgain)  # type: ignore[arg-type]
    file = study_of(*change(method, options), "n_trials: 4", "n_trials: 40")
    assert message in refusal(file)


@pytest.mark.parametrize("warmup", [0, 1, 2, 5, 40, 10**6])
@pytest.mark.parametrize("interval", [1, 2, 50])
def test_the_median_pruners_decision_epochs_are_optunas(study_of: StudyOf, warmup: int, interval: int) -> None:
    study = study_of("pruner: none", f"pruner: {{name: median, n_warmup_steps: {warmup}, interval_steps: {interval}}}")
    expected = {e for e in range(1, 10) if e >= warmup and (e == 1 or (e - warmup) % interval == 0)}
    assert decision_epochs(study.study) == expected


def test_no_two_differences_between_trials_are_equal() -> None:
    """SciPy's Wilcoxon test takes seconds if they are, since it needs all permutations of their signs."""
    losses = [[_invented_measures(number, epoch)["valid_loss"] for epoch in range(1, 13)] for number in range(10)]
    for first, second in itertools.combinations(losses, 2):
        differences = {round(abs(a - b), 12) for a, b in zip(first, second, strict=True)}
        assert len(differences) == 12
        assert 0 not in differences
