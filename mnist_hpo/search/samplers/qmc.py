"""Quasi-Monte Carlo: the points of one low-discrepancy sequence, which cover the space more evenly than random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.coordinates import Vector
from mnist_hpo.search.samplers.point_sampler import PointSampler
from mnist_hpo.search.samplers.seen_trials import SeenTrial
from mnist_hpo.search.samplers.sobol import halton_point, sobol_points


class QmcSampler(PointSampler):
    """Trial n gets point n of the study's sequence. An enqueued trial takes the place of its point.

    Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization" (JMLR 2012), section 5.
    """

    def __init__(self, asked: Asked, *, qmc_type: Literal["sobol", "halton"] = "sobol", scramble: bool = True) -> None:
        super().__init__(asked)
        self._type, self._scramble = qmc_type, scramble

    def propose(self, trials: Sequence[SeenTrial]) -> Vector:
        """See `PointSampler`."""
        n_axes, generator, number = self.cube.n_axes, self.asked.study_generator(), self.asked.number
        if self._type == "sobol":
            return sobol_points(n_axes, generator, number, 1, scramble=self._scramble)[0]
        return halton_point(n_axes, generator, number, scramble=self._scramble)[0]
