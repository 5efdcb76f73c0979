"""The hyperparameters of a new trial: an entry of the file's `enqueue`, and the sampler's values for the rest."""

from __future__ import annotations

import warnings

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import Trial

from mnist_hpo.search.make_sampler import make_sampler
from mnist_hpo.search.space import distribution, distributions_of
from mnist_hpo.spec.study import ParameterValue, Space, Study


def new_optuna_study(spec: Study, storage: BaseStorage | None = None, pruner: BasePruner | None = None) -> optuna.Study:
    """Return an Optuna study without trials, by default in memory, with the directions of the study's objectives."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MINIMIZE if o.sign > 0 else StudyDirection.MAXIMIZE for o in spec.objectives]
    return optuna.create_study(storage=storage, pruner=pruner, study_name=spec.name, directions=directions)


def propose(study: optuna.Study, spec: Study, number: int) -> Trial:
    """Ask for the next trial, whose number this must be. Its `params` are its searched hyperparameters.

    The sampler is seeded from the study's seed and the number. Hyperparameters are drawn in the order of
    `Study.search_order`; those with a `when` only if it holds.
    """
    study.sampler = make_sampler(spec, number)
    if number < len(spec.enqueue):
        study.enqueue_trial({name: value for name, value in spec.enqueue[number].items() if name in spec.space})
    names = spec.search_order()
    always = distributions_of((name for name in names if spec.space[name].when is None), spec.space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = study.ask(fixed_distributions=always)
        for name in names:
            if name not in always and spec.space[name].is_active(trial.params):
                _suggest(trial, name, spec.space[name])
    assert trial.number == number
    return trial


def _suggest(trial: Trial, name: str, entry: Space) -> ParameterValue | None:
    match distribution(entry):
        case CategoricalDistribution() as found:
            return trial.suggest_categorical(name, found.choices)
        case FloatDistribution() as found:
            return trial.suggest_float(name, found.low, found.high, step=found.step, log=found.log)
        case found:
            return trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)
