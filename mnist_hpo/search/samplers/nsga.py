"""NSGA-II and NSGA-III: genetic algorithms for several objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_hpo.search.pareto import Point, ranking
from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.evolution import EvolutionarySampler
from mnist_hpo.search.samplers.niching import spread_selection
from mnist_hpo.search.samplers.seen_trials import SeenTrial, best_first
from mnist_hpo.search.samplers.variation import Variation


class Nsga2Sampler(EvolutionarySampler):
    """Parents are the trials of the first fronts, those with larger crowding distance first.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002).
    """

    def __init__(
        self,
        asked: Asked,
        *,
        population_size: int = 20,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        mutation_prob: float | None = None,
    ) -> None:
        super().__init__(asked, population_size, Variation(crossover_prob, swapping_prob, mutation_prob))

    def survivors(self, trials: Sequence[SeenTrial], n: int) -> list[SeenTrial]:
        """See `EvolutionarySampler`."""
        return _selected(trials, n, lambda points: ranking(points)[:n])


class Nsga3Sampler(EvolutionarySampler):
    """Parents are the trials of the first fronts, those near different reference directions first.

    Deb and Jain, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated
    Sorting Approach, Part I" (2014).
    """

    def __init__(
        self,
        asked: Asked,
        *,
        population_size: int = 20,
        dividing_parameter: int = 3,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        mutation_prob: float | None = None,
    ) -> None:
        super().__init__(asked, population_size, Variation(crossover_prob, swapping_prob, mutation_prob))
        self._n_divisions = dividing_parameter

    def survivors(self, trials: Sequence[SeenTrial], n: int) -> list[SeenTrial]:
        """See `EvolutionarySampler`."""
        return _selected(trials, n, lambda points: spread_selection(points, n, self._n_divisions))


def _selected(trials: Sequence[SeenTrial], n: int, select: Callable[[Sequence[Point]], list[int]]) -> list[SeenTrial]:
    """Return complete trials as selected by their objectives, then others. With one objective, return the best."""
    complete = [trial for trial in trials if trial.state == "complete"]
    if complete and len(complete[0].values) > 1:
        chosen = [complete[index] for index in select([trial.values for trial in complete])]
        return [*chosen, *(trial for trial in trials if trial.state != "complete")][:n]
    return best_first(trials)[:n]
