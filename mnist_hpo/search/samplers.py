"""Samplers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from mnist_hpo.search.options import build
from mnist_hpo.search.space import grid_values
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study


class _WholeGrid(GridSampler):
    """Optuna's grid sampler, but it does not stop the study after the last point: the budget does that."""

    def after_trial(self, study: OptunaStudy, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        return


SAMPLERS: Mapping[str, type[BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler, "grid": _WholeGrid}


def make_sampler(study: Study, number: int) -> BaseSampler:
    """Return the sampler for one trial, seeded from the study's seed and the trial's number.

    Raises:
        OptionError: an option is unknown or has a value that the sampler refuses.

    """
    name = study.sampler.name
    if name == "grid":
        # The seed shuffles the grid, whose order assigns each trial number a point: one seed for the whole study.
        grid = {parameter: grid_values(entry) for parameter, entry in study.space.items()}
        ours: dict[str, object] = {"search_space": grid, "seed": _seed(study.seed, "grid")}
    else:
        ours = {"seed": _seed(study.seed, "sampler", number)}
    return build(SAMPLERS[name], study.sampler.options, ours)


def _seed(*parts: int | str) -> int:
    """Return a seed of 32 bits, as NumPy's legacy generator requires."""
    return seed_of(*parts) % 2**32
