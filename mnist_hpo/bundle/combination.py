"""How the predictions of an ensemble's members become one: functions of arrays, without the members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Method = Literal["vote", "average", "greedy", "stacking", "bagging", "boosting"]
METHODS: tuple[Method, ...] = get_args(Method)

Combination = Mapping[str, NDArray[np.float64]]
"""The numbers of a combination by name: `weights` f64[M], or `coefficients` f64[M * C, C] and `intercepts` f64[C]."""

_TIE = 0.5
"""The weight of the members' mean probability beside their votes: it decides only between equal numbers of votes."""
_LOWEST = -20.0
"""Log-probabilities below this are raised to it: a member that is certain must not outweigh all others."""


def combine(
    method: Method, combination: Combination, log_probabilities: NDArray[np.float32], arrays: Any = np
) -> NDArray[np.float32]:
    """Return the ensemble's log-probabilities f32[n, C].

    - vote, boosting: the weighted share of the members that predict a class.
    - average, greedy, bagging: the weighted mean of the members' probabilities.
    - stacking: a logistic regression on the members' log-probabilities (Wolpert, "Stacked Generalization", 1992).

    Args:
        method: how to combine.
        combination: the numbers of the combination.
        log_probabilities: of each member, f32[M, n, C].
        arrays: the module that computes: `numpy`, or `jax.numpy` for a portable function, which then computes in fp32.

    """
    members = log_probabilities if arrays is not np else log_probabilities.astype(np.float64)
    if method == "stacking":
        logits = stacking_features(members, arrays) @ combination["coefficients"] + combination["intercepts"][None]
        shifted = logits - logits.max(axis=1, keepdims=True)
        return (shifted - arrays.log(arrays.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)
    weights = combination["weights"] / combination["weights"].sum()
    mean = arrays.tensordot(weights, arrays.exp(members), axes=1)
    if method in ("vote", "boosting"):
        classes = arrays.arange(members.shape[2])
        votes = (members.argmax(axis=2)[:, :, None] == classes[None, None]).astype(members.dtype)
        share = arrays.tensordot(weights, votes, axes=1)
        # Two unequal numbers of votes differ by at least the smallest weight.
        tie = _TIE * arrays.where(weights > 0, weights, np.inf).min()
        mean = (share + tie * mean) / (1 + tie)
    return arrays.log(arrays.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)


def stacking_features(log_probabilities: NDArray[np.floating], arrays: Any = np) -> NDArray[np.floating]:
    """Return the members' log-probabilities [M, n, C] side by side, [n, M * C]."""
    bounded = arrays.maximum(log_probabilities, _LOWEST)
    return bounded.transpose(1, 0, 2).reshape(bounded.shape[1], -1)
