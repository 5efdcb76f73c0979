"""Importances equal Optuna's, and correlations equal SciPy's."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import create_trial
from scipy.stats import spearmanr
from simulated_study import SPACE, run_simulated, study_of

from mnist_hpo.analysis.importance import assess
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.search.space import distributions
from mnist_hpo.tracking.plots import write_plots


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    """A study with only linear scales, on which Optuna's importances are defined as ours."""
    space = {
        "learning_rate": {"type": "float", "low": 0.0001, "high": 0.02},
        "dropout": {"type": "float", "low": 0.0, "high": 0.6},
        "depth": {"type": "int", "low": 1, "high": 3},
    }
    study = study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 60, "max_epochs": 3})
    return run_simulated(tmp_path_factory.mktemp("linear"), study)


def test_fanova_equals_optunas(linear: StudyView) -> None:
    study = optuna.create_study()
    by_name = distributions(linear.study.space)
    for trial in linear.complete:
        study.add_trial(create_trial(params=dict(trial.parameters), distributions=by_name, value=trial.value))
    theirs = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    ours = assess(linear).fanova
    assert ours.keys() == theirs.keys()
    assert sum(ours.values()) == pytest.approx(1)
    assert max(theirs.values()) > 0.5
    for name, share in theirs.items():
        assert ours[name] == pytest.approx(share, abs=0.05)


def test_a_hyperparameter_on_a_log_scale_is_assessed_on_that_scale(tmp_path: Path) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "batch_size", "optimizer")}
    study = study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 60, "max_epochs": 2})
    importance = assess(run_simulated(tmp_path, study))
    assert importance.ranking()[0] == "learning_rate"
    assert importance.fanova["learning_rate"] > 0.8
    assert importance.ped_anova.keys() == importance.fanova.keys()


def test_mlflows_plots_show_the_same_importances(tmp_path: Path) -> None:
    """MLflow and the report must agree, also on needing a minimum number of trials."""
    view = run_simulated(tmp_path, study_of(pruner={"name": "none"}, budget={"n_trials": 12, "max_epochs": 2}))
    write_plots(view.study, view.trials, tmp_path)
    page = (tmp_path / "plots.html").read_text()
    importance = assess(view)
    for shares in (importance.fanova, importance.ped_anova):
        texts = ",".join(f'"{100 * shares[name]:.0f} %"' for name in reversed(importance.ranking()))
        assert f'"text":[{texts}]' in page


def test_ped_anova_equals_optunas_for_the_top_trials(linear: StudyView) -> None:
    study = optuna.create_study()
    by_name = distributions(linear.study.space)
    for trial in linear.complete:
        study.add_trial(create_trial(params=dict(trial.parameters), distributions=by_name, value=trial.value))
    theirs = PedAnovaImportanceEvaluator(target_quantile=0.1).evaluate(study)
    found = assess(linear)
    assert found.n_top == 6 == len(linear.complete) / 10
    assert found.ped_anova == pytest.approx({name: share / sum(theirs.values()) for name, share in theirs.items()})


def test_correlations_equal_spearmans(linear: StudyView) -> None:
    found = assess(linear).correlations
    values = [trial.value for trial in linear.complete]
    for name in linear.study.space:
        expected = spearmanr([trial.parameters[name] for trial in linear.complete], values)
        assert found[name].rho == pytest.approx(expected.statistic)
        assert found[name].p_value == pytest.approx(expected.pvalue)
    assert found["dropout"].rho > 0.3


def test_only_ordered_choices_have_a_correlation(tmp_path: Path) -> None:
    space = {name: SPACE[name] for name in ("batch_size", "optimizer")}
    study = study_of(space=space, pruner={"name": "none"}, budget={"n_trials": 12, "max_epochs": 1})
    found = assess(run_simulated(tmp_path, study)).correlations
    assert found.keys() == {"batch_size"}
    assert np.isfinite(found["batch_size"].rho)
