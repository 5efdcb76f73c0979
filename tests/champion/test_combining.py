"""The weights of ensembles agree with slow, independent computations."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mnist_hpo.bundle.combination import combine, stacking_features
from mnist_hpo.champion.combining import boosting_round, choose_weights, greedy_weights

N_CLASSES = 4


def members(n: int, n_examples: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities of members of different quality, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_CLASSES, n_examples).astype(np.uint8)
    truth = np.eye(N_CLASSES)[labels]
    logits = np.stack([rng.normal(size=truth.shape) + (0.5 + k) * truth for k in range(n)])
    return (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float32), labels


def log_loss(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())


def test_the_average_is_that_of_the_probabilities() -> None:
    found, labels = members(3)
    combined = combine("average", choose_weights("average", found, labels, np.ones(3)), found)
    np.testing.assert_allclose(np.exp(combined), np.exp(found).mean(axis=0), rtol=1e-5)


def test_a_vote_is_won_by_the_class_of_most_members_and_a_tie_by_their_probabilities() -> None:
    certain, unsure = [0.97, 0.01, 0.01, 0.01], [0.3, 0.4, 0.2, 0.1]
    probabilities = np.array([[certain, certain], [unsure, [0.1, 0.2, 0.3, 0.4]], [unsure, unsure]])
    combined = combine("vote", {"weights": np.ones(3)}, np.log(probabilities).astype(np.float32))
    # The first image has two votes for class 1. The second has one vote each for 0, 1 and 3; 0 is the most probable.
    assert combined.argmax(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(np.exp(combined).sum(axis=1), 1, rtol=1e-5)


def test_greedy_weights_are_those_of_an_exhaustive_search_at_each_round() -> None:
    found, labels = members(4)
    counts = np.zeros(4)
    history = []
    for _ in range(100):
        losses = []
        for member in range(4):
            trial = counts.copy()
            trial[member] += 1
            losses.append(log_loss(combine("greedy", {"weights": trial}, found), labels))
        counts[int(np.argmin(losses))] += 1
        history.append((min(losses), counts.copy()))
    _, expected = min(history, key=lambda entry: entry[0])
    weights = greedy_weights(found, labels)
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum(), atol=0.03)


def test_a_greedy_ensemble_is_never_worse_on_its_own_examples_than_its_best_member() -> None:
    found, labels = members(5)
    combined = combine("greedy", choose_weights("greedy", found, labels, np.ones(5)), found)
    assert log_loss(combined, labels) <= min(log_loss(one, labels) for one in found)


def test_stacking_is_a_logistic_regression_on_the_log_probabilities() -> None:
    found, labels = members(3)
    combination = choose_weights("stacking", found, labels, np.ones(3))
    combined = np.exp(combine("stacking", combination, found))
    candidates = [
        LogisticRegression(C=inverse, max_iter=1000)
        .fit(stacking_features(found.astype(np.float64)), labels)
        .predict_proba(stacking_features(found.astype(np.float64)))
        for inverse in (1e-4, 1e-3, 1e-2, 1e-1)
    ]
    assert min(np.abs(combined - one).max() for one in candidates) < 1e-3


def test_stacking_gives_no_probability_to_a_class_without_examples() -> None:
    found, labels = members(2)
    combination = choose_weights("stacking", found, np.where(labels == 2, 1, labels).astype(np.uint8), np.ones(2))
    assert np.exp(combine("stacking", combination, found))[:, 2].max() < 1e-6


def test_boosting_makes_the_examples_that_a_member_got_wrong_heavier() -> None:
    weights, is_right = np.full(10, 0.1), np.array([True] * 8 + [False] * 2)
    vote, heavier = boosting_round(weights, is_right, n_classes=4)
    assert vote == pytest.approx(np.log(0.8 / 0.2) + np.log(3))
    # SAMME leaves a member at the level of chance for the new weights.
    assert heavier[8:].sum() == pytest.approx(3 / 4)
    assert heavier.sum() == pytest.approx(1)


def test_a_member_at_the_level_of_chance_has_no_vote_and_a_perfect_one_a_finite_vote() -> None:
    weights = np.full(8, 1 / 8)
    vote, unchanged = boosting_round(weights, np.array([True] * 2 + [False] * 6), n_classes=4)
    assert vote == 0
    assert np.array_equal(unchanged, weights)
    vote, _ = boosting_round(weights, np.ones(8, bool), n_classes=4)
    assert np.isfinite(vote)
