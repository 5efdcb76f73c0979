"""Choose the weights of an ensemble's members on the validation examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV

from mnist_hpo.bundle.combination import Combination, Method, stacking_features

_N_ROUNDS = 100
"""How often greedy selection adds a member."""
_N_FOLDS = 3
_INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


def choose_weights(
    method: Method, log_probabilities: NDArray[np.float32], labels: NDArray[np.uint8], votes: NDArray[np.float64]
) -> Combination:
    """Return the numbers of a combination.

    Args:
        method: how to combine.
        log_probabilities: of each member for the validation examples, f32[M, n, C].
        labels: u8[n].
        votes: f64[M], the weights that boosting has found; other methods ignore them.

    """
    match method:
        case "greedy":
            return {"weights": greedy_weights(log_probabilities, labels)}
        case "stacking":
            return _stacked(log_probabilities, labels)
        case "boosting":
            return {"weights": votes}
        case "vote" | "average" | "bagging":
            return {"weights": np.ones(len(log_probabilities))}


def greedy_weights(log_probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how often each member is chosen, f64[M].

    Caruana et al., "Ensemble Selection from Libraries of Models" (2004): again and again add the member, also one that
    is in already, whose addition gives the lowest log loss of the mean probability. The number of additions is the one
    with the lowest log loss. Only the probability of the true class matters for it.
    """
    of_label = np.exp(log_probabilities[:, np.arange(len(labels)), labels].astype(np.float64))
    counts, total = np.zeros(len(of_label)), np.zeros(len(labels))
    best_loss, best = np.inf, counts
    for n_chosen in range(1, _N_ROUNDS + 1):
        means = (total[None] + of_label) / n_chosen
        losses = -np.log(np.maximum(means, np.finfo(np.float64).tiny)).mean(axis=1)
        member = int(losses.argmin())
        counts[member] += 1
        total += of_label[member]
        if losses[member] < best_loss:
            best_loss, best = losses[member], counts.copy()
    return best


def boosting_round(
    weights: NDArray[np.float64], is_right: NDArray[np.bool_], n_classes: int
) -> tuple[float, NDArray[np.float64]]:
    """Return a member's vote and the examples' new weights, which sum to 1.

    Zhu et al., "Multi-class AdaBoost" (SAMME, 2009). The error is bounded from below by that of half an example, since
    a member without errors would outvote all others; a member no better than chance has a vote of 0.

    Args:
        weights: f64[n], the examples' weights; they sum to 1.
        is_right: bool[n], whether the member predicts each example's label.
        n_classes: the number of classes.

    """
    error = max(float(weights[~is_right].sum()), 0.5 / len(weights))
    if error >= 1 - 1 / n_classes:
        return 0.0, weights
    vote = float(np.log((1 - error) / error) + np.log(n_classes - 1))
    heavier = weights * np.exp(vote * ~is_right)
    return vote, heavier / heavier.sum()


def _stacked(log_probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> Combination:
    """Fit the logistic regression; choose its penalty by cross-validation."""
    # scikit-learn's annotations are wrong: they allow only the types of the defaults.
    regression: Any = LogisticRegressionCV
    found = regression(
        Cs=list(_INVERSE_PENALTIES),
        cv=_N_FOLDS,
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(stacking_features(log_probabilities.astype(np.float64)), labels)
    n_classes = log_probabilities.shape[2]
    coefficients = np.zeros((n_classes, found.coef_.shape[1]))
    # A class without an example has a probability of almost 0.
    intercepts = np.full(n_classes, -1e3)
    coefficients[found.classes_], intercepts[found.classes_] = found.coef_, found.intercept_
    return {"coefficients": coefficients.T, "intercepts": intercepts}
