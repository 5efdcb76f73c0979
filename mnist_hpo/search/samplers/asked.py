"""The trial for which a sampler is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study


@dataclass(frozen=True)
class Asked:
    """A study and the number of its next trial. A sampler draws from no other seeds than these."""

    study: Study
    number: int

    def generator(self) -> np.random.Generator:
        """Return the trial's random generator."""
        return np.random.default_rng(seed_of(self.study.seed, "sampler", self.number))

    def study_generator(self) -> np.random.Generator:
        """Return a random generator that draws the same for all trials of the study."""
        return np.random.default_rng(seed_of(self.study.seed, "sampler"))
