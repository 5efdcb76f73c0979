"""The base of evolutionary samplers: generations of trials, each made of children of the best trials before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.coordinates import Vector
from mnist_hpo.search.samplers.point_sampler import PointSampler
from mnist_hpo.search.samplers.seen_trials import SeenTrial
from mnist_hpo.search.samplers.variation import Variation

_N_TRIES = 20
"""A child that repeats a trial is drawn again this many times."""


class EvolutionarySampler(PointSampler):
    """Proposes a child of two of the `population_size` best trials of all generations before the trial's own.

    Trial number n belongs to generation n // `population_size`. Trials that have not ended are no parents yet. The
    first generation is a scrambled Sobol sequence.
    """

    def __init__(self, asked: Asked, population_size: int, variation: Variation) -> None:
        super().__init__(asked)
        self._population_size, self._variation = population_size, variation

    @abstractmethod
    def survivors(self, trials: Sequence[SeenTrial], n: int) -> list[SeenTrial]:
        """Return the n best of these trials, which have ended, or all if there are fewer; the best first."""

    def propose(self, trials: Sequence[SeenTrial]) -> Vector:
        """See `PointSampler`."""
        first = self.asked.number // self._population_size * self._population_size
        ended = [trial for trial in trials if trial.number < first and trial.state != "running"]
        parents = self.survivors(ended, self._population_size)
        if len(parents) < 2:
            return self.first_point()
        known = set(self.cube.keys(np.stack([trial.point for trial in trials])))
        generator = self.asked.generator()
        child = self._child(parents, generator)
        for _ in range(_N_TRIES):
            if self.cube.keys(child[None])[0] not in known:
                break
            child = self._child(parents, generator)
        return child

    def _child(self, parents: Sequence[SeenTrial], generator: np.random.Generator) -> Vector:
        """Return a child of two different parents, each of which is the better of two random ones."""
        first = int(generator.choice(len(parents), 2, replace=False).min())
        others = [index for index in range(len(parents)) if index != first]
        second = min(int(index) for index in generator.choice(others, min(2, len(others)), replace=False))
        return self._variation.child(parents[first].point, parents[second].point, self.cube, generator)
