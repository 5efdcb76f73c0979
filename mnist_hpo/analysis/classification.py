"""Precision, recall and F1 of each class, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class."""

    n_examples: int
    precision: float
    """The share of the examples predicted as the class that belong to it; 0 if there are none."""
    recall: float
    """The share of the class's examples that are predicted as the class; 0 if there are none."""
    f1: float
    """The harmonic mean of both; 0 if one of them is 0."""


def by_class(matrix: Sequence[Sequence[int]]) -> list[ClassFigures]:
    """Return the figures of each class.

    Args:
        matrix: [true class][predicted class], numbers of examples.

    """
    found: list[ClassFigures] = []
    for label, row in enumerate(matrix):
        n_true, n_predicted = sum(row), sum(other[label] for other in matrix)
        n_right = row[label]
        precision, recall = n_right / max(n_predicted, 1), n_right / max(n_true, 1)
        found.append(ClassFigures(n_true, precision, recall, f1=2 * n_right / max(n_true + n_predicted, 1)))
    return found
