"""The base of samplers that propose all hyperparameters of a trial at once, as a point of the unit cube."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.coordinates import Coordinates, Vector
from mnist_hpo.search.samplers.seen_trials import PROPOSED_POINT, SeenTrial, seen_trials
from mnist_hpo.search.samplers.sobol import sobol_points
from mnist_hpo.search.space import distributions


class PointSampler(BaseSampler):
    """A sampler of one trial. A proposal depends only on the study, the trial's number, and the trials that it sees.

    Optuna takes the values of those hyperparameters whose `when` holds, unless they are enqueued. The whole point is
    kept with the trial, so that a hyperparameter that is not active has a random value and not the same one each time.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.cube = Coordinates(asked.study)

    @abstractmethod
    def propose(self, trials: Sequence[SeenTrial]) -> Vector:
        """Return the point of the trial for which the sampler is asked; `trials` are the others, by number."""

    def first_point(self) -> Vector:
        """Return the point of a trial without a model: one of a scrambled Sobol sequence, by the trial's number."""
        return sobol_points(self.cube.n_axes, self.asked.study_generator(), self.asked.number, 1)[0]

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See `BaseSampler`."""
        return distributions(self.asked.study.space)

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler`."""
        point = self.propose(seen_trials(study, self.cube, trial.number))
        # Optuna has no public way to do this; its own samplers write attributes in the same way.
        storage = study._storage  # pyright: ignore[reportPrivateUsage]
        storage.set_trial_system_attr(trial._trial_id, PROPOSED_POINT, point.tolist())  # pyright: ignore[reportPrivateUsage]
        return self.cube.values_at(point)

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> NoReturn:
        """Raise an error, because every hyperparameter has a value at the point."""
        raise AssertionError(param_name)
