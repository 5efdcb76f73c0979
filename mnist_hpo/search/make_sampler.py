"""Samplers by name."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from mnist_hpo.search.options import build
from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.cmaes import CmaesSampler
from mnist_hpo.search.samplers.genetic import GeneticSampler
from mnist_hpo.search.samplers.gp import GpSampler
from mnist_hpo.search.samplers.grid import WholeGridSampler
from mnist_hpo.search.samplers.nsga import Nsga2Sampler, Nsga3Sampler
from mnist_hpo.search.samplers.point_sampler import PointSampler
from mnist_hpo.search.samplers.qmc import QmcSampler
from mnist_hpo.search.space import grid_values
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study

SAMPLERS: Mapping[str, type[BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "grid": WholeGridSampler,
    "qmc": QmcSampler,
    "gp": GpSampler,
    "cmaes": CmaesSampler,
    "genetic": GeneticSampler,
    "nsgaii": Nsga2Sampler,
    "nsgaiii": Nsga3Sampler,
}

SINGLE_OBJECTIVE_SAMPLERS = ("gp", "cmaes", "genetic")
"""The samplers that optimise a single objective."""


def make_sampler(study: Study, number: int) -> BaseSampler:
    """Return the sampler for one trial, seeded from the study's seed and the trial's number.

    Raises:
        OptionError: an option is unknown or has a value that the sampler refuses.

    """
    kind = SAMPLERS[study.sampler.name]
    if issubclass(kind, PointSampler):
        ours: dict[str, object] = {"asked": Asked(study, number)}
    elif issubclass(kind, WholeGridSampler):
        # The seed shuffles the grid, whose order assigns each trial number a point: one seed for the whole study.
        grid = {parameter: grid_values(entry) for parameter, entry in study.space.items()}
        ours = {"search_space": grid, "seed": _seed(study.seed, "grid")}
    else:
        ours = {"seed": _seed(study.seed, "sampler", number)}
    return build(kind, study.sampler.options, ours)


def _seed(*parts: int | str) -> int:
    """Return a seed of 32 bits, as NumPy's legacy generator requires."""
    return seed_of(*parts) % 2**32
