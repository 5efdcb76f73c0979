"""A genetic algorithm for one objective."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.evolution import EvolutionarySampler
from mnist_hpo.search.samplers.seen_trials import SeenTrial, best_first
from mnist_hpo.search.samplers.variation import Variation


class GeneticSampler(EvolutionarySampler):
    """Parents are the trials of the lowest objective.

    Bäck and Schwefel, "An Overview of Evolutionary Algorithms for Parameter Optimization" (1993): a (mu + lambda)
    selection with tournaments.
    """

    def __init__(
        self,
        asked: Asked,
        *,
        population_size: int = 10,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        mutation_prob: float | None = None,
    ) -> None:
        super().__init__(asked, population_size, Variation(crossover_prob, swapping_prob, mutation_prob))

    def survivors(self, trials: Sequence[SeenTrial], n: int) -> list[SeenTrial]:
        """See `EvolutionarySampler`."""
        return best_first(trials)[:n]
