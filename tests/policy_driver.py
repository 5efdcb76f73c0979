"""Call a study's search policy as the scheduler does, with losses that the test chooses."""

from collections.abc import Mapping
from dataclasses import dataclass

from optuna.distributions import BaseDistribution

from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.policy import Start
from mnist_hpo.search.space import distributions_of
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.trial_plan import trial_costs


@dataclass(frozen=True)
class Started:
    """A trial that the policy has started."""

    number: int
    parameters: Mapping[str, ParameterValue]
    distributions: Mapping[str, BaseDistribution]
    costs: Mapping[str, int]


class Driver:
    """Calls the policy of a study that has the objective valid_loss and pauses no trial."""

    def __init__(self, study: Study) -> None:
        self._study, self._policy = study, make_policy(study)
        self.n_started = 0

    def start(self) -> Started:
        decision = self._policy.next()
        assert isinstance(decision, Start)
        self.n_started += 1
        parameters = decision.parameters
        searched = distributions_of(parameters, self._study.space)
        return Started(self.n_started - 1, parameters, searched, trial_costs(self._study, parameters))

    def report(self, number: int, epoch: int, valid_loss: float) -> bool:
        """Report an epoch; return whether the policy prunes the trial."""
        advice = self._policy.on_epoch(number, epoch, {"valid_loss": valid_loss})
        assert advice in ("continue", "stop")
        return advice == "stop"

    def complete(self, number: int, valid_loss: float) -> None:
        self._policy.on_complete(number, {"valid_loss": valid_loss})

    def prune(self, number: int) -> None:
        self._policy.on_stop(number)

    def fail(self, number: int, epoch: int) -> None:
        self._policy.on_failure(number, epoch)
