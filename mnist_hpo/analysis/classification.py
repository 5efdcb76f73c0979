"""A classifier by class, from its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class."""

    n_examples: int
    precision: float
    """Of the examples guessed to be of the class, the share that is; 0 where none is guessed."""
    recall: float
    """Of the class's examples, the share that is guessed; 0 where there are none."""
    f1: float
    """The harmonic mean of both; 0 where one of them is."""


def by_class(matrix: Sequence[Sequence[int]]) -> list[ClassFigures]:
    """The figures of each class.

    Args:
        matrix: [true class][guessed class], counts of examples.

    """
    found: list[ClassFigures] = []
    for label, row in enumerate(matrix):
        n_true, n_guessed = sum(row), sum(other[label] for other in matrix)
        n_right = row[label]
        precision, recall = n_right / max(n_guessed, 1), n_right / max(n_true, 1)
        found.append(ClassFigures(n_true, precision, recall, f1=2 * n_right / max(n_true + n_guessed, 1)))
    return found
