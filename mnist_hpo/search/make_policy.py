"""The policy of a study: the one that it names, or else its sampler and pruner."""

from __future__ import annotations

from mnist_hpo.search.policy import Policy
from mnist_hpo.search.sampler_pruner import SamplerPruner
from mnist_hpo.spec.plugins import Plugins
from mnist_hpo.spec.study import Study

POLICIES = Plugins("policy", "mnist_hpo.search.policies", "POLICY", "mnist_hpo.policies")


def policy_class(study: Study) -> type[Policy]:
    """Return the class of the study's policy.

    Raises:
        UserError: there is no such policy, or it cannot be loaded.

    """
    return SamplerPruner if study.policy is None else POLICIES.load(study.policy.name)


def make_policy(study: Study) -> Policy:
    """Return the study's policy, before its first trial.

    Raises:
        UserError: there is no such policy, or it cannot be loaded.
        OptionError: an option is unknown or has a value that the policy refuses.

    """
    return policy_class(study)(study)
