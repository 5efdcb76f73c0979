"""Successive halving by non-dominated rank: prunes trials of a study with several objectives, which Optuna cannot."""

from __future__ import annotations

from mnist_hpo.search.pareto import Point, ranking
from mnist_hpo.search.policy import Advice, Measures
from mnist_hpo.search.pruners import decision_epochs, halving_factor
from mnist_hpo.spec.study import Study


class ParetoPruner:
    """At each rung, a trial goes on if it is among the best 1 / `reduction_factor` of those that reached it so far.

    As Optuna's SuccessiveHalvingPruner does for one objective, with `ranking` in place of the order of the values, and
    among lower-numbered trials only. A study whose pruner is `none` has no rungs.
    """

    def __init__(self, study: Study) -> None:
        self._objectives = study.objectives
        self._factor = halving_factor(study)
        self._rungs: dict[int, dict[int, Point]] = {epoch: {} for epoch in decision_epochs(study)}
        """By epoch, by trial."""

    def on_epoch(self, trial: int, epoch: int, measures: Measures) -> Advice:
        """Take note of a trial's epoch, and say `continue` or `stop`."""
        if epoch not in self._rungs:
            return "continue"
        rung = self._rungs[epoch]
        rung[trial] = [objective.sign * measures[objective.metric] for objective in self._objectives]
        competing = sorted(number for number in rung if number <= trial)
        best = ranking([rung[number] for number in competing])[: max(1, len(competing) // self._factor)]
        return "continue" if competing.index(trial) in best else "stop"
