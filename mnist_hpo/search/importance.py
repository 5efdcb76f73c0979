"""PED-ANOVA as every page and picture of a study asks it, so that they all give the same answer."""

from __future__ import annotations

import math

from optuna.importance import PedAnovaImportanceEvaluator

_MIN_TOP = 5
"""It wants at least so many trials at the top (Optuna's documentation)."""


def n_top(n_complete: int) -> int:
    """Of how many of the complete trials it is asked what sets them apart: the best tenth, more of few trials."""
    return min(max(math.ceil(n_complete / 10), _MIN_TOP), math.ceil(n_complete / 2))


def ped_anova(n_complete: int) -> PedAnovaImportanceEvaluator:
    """Optuna's evaluator of it (Watanabe, Bansal & Hutter, IJCAI 2023), for so many complete trials."""
    # Optuna rounds up to whole trials: half a trial less keeps it from one too many where the division is not exact.
    return PedAnovaImportanceEvaluator(target_quantile=(n_top(n_complete) - 0.5) / n_complete)
