"""PED-ANOVA as every page and picture of a study asks it, so that they all give the same answer."""

from __future__ import annotations

from optuna.importance import PedAnovaImportanceEvaluator

_TOP_TRIALS = 5
"""It wants at least so many trials in the top quantile (Optuna's documentation)."""
_TOP_QUANTILE, _LARGEST_TOP_QUANTILE = 0.1, 0.5


def top_quantile(n_complete: int) -> float:
    """Of which part of the complete trials it is asked what sets them apart: the best tenth, more of few trials."""
    return min(max(_TOP_QUANTILE, _TOP_TRIALS / n_complete), _LARGEST_TOP_QUANTILE)


def ped_anova(n_complete: int) -> PedAnovaImportanceEvaluator:
    """Optuna's evaluator of it (Watanabe, Bansal & Hutter, IJCAI 2023), for so many complete trials."""
    return PedAnovaImportanceEvaluator(target_quantile=top_quantile(n_complete))
