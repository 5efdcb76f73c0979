"""Successive halving by non-dominated rank, for studies with several objectives. Optuna cannot prune those."""

from __future__ import annotations

from mnist_hpo.search.decision_epochs import decision_epochs, halving_factor
from mnist_hpo.search.pareto import Point, ranking
from mnist_hpo.search.policy import Advice, Measures
from mnist_hpo.spec.study import Study


class ParetoPruner:
    """Prunes a trial at a rung unless it is among the best 1 / `reduction_factor` of the trials that reached it so far.

    Like Optuna's SuccessiveHalvingPruner for one objective, but it ranks trials by `ranking`, and compares a trial only
    with lower-numbered ones. A study whose pruner is `none` has no rungs.
    """

    def __init__(self, study: Study) -> None:
        self._objectives = study.objectives
        self._factor = halving_factor(study)
        self._rungs: dict[int, dict[int, Point]] = {epoch: {} for epoch in decision_epochs(study)}
        """By epoch, by trial: the objectives; maximised ones are negated."""

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """Record a trial's measures after an epoch, and return `continue` or `stop`."""
        if epoch not in self._rungs:
            return "continue"
        rung = self._rungs[epoch]
        rung[trial] = [objective.sign * measures[objective.metric] for objective in self._objectives]
        competing = sorted(number for number in rung if number <= trial)
        best = ranking([rung[number] for number in competing])[: max(1, len(competing) // self._factor)]
        return "continue" if competing.index(trial) in best else "stop"
