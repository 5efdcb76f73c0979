"""Accuracy on the test split of a champion's variants: with quantized weights, or converted for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_hpo.bundle.bundle import predictor_of
from mnist_hpo.bundle.reading import StoredModel
from mnist_hpo.data.held_out import load_test
from mnist_hpo.learners.protocol import Predictor


@dataclass(frozen=True)
class Agreement:
    """How far a variant's answers agree with the champion's on the test images."""

    n_images: int
    n_same_digit: int
    max_probability_difference: float
    """The largest difference of any probability."""
    test_accuracy: float
    """The variant's."""


def test_accuracies(models: Sequence[StoredModel], directory: Path, split: str) -> list[float]:
    """Return the test accuracy of each of these models.

    No model is chosen by these figures: they show what quantizing the champion's weights costs.

    Args:
        models: variants of a champion.
        directory: the prepared dataset.
        split: the split.

    """
    images, labels = load_test(directory, split)
    found = []
    for model in models:
        shaped = np.asarray(images).reshape(-1, *model.model.image_shape)
        found.append(float(np.mean(predictor_of(model)(shaped).argmax(axis=1) == labels)))
    return found


def test_agreement(model: StoredModel, variant: Predictor, directory: Path, split: str) -> Agreement:
    """Compare a variant's answers with the champion's on all test images.

    Args:
        model: the champion.
        variant: the prediction of the same model by another program.
        directory: the prepared dataset.
        split: the split.

    """
    images, labels = load_test(directory, split)
    shaped = np.asarray(images).reshape(-1, *model.model.image_shape)
    original, found = (np.exp(predict(shaped)) for predict in (predictor_of(model), variant))
    digits = found.argmax(axis=1)
    return Agreement(
        n_images=len(labels),
        n_same_digit=int(np.sum(digits == original.argmax(axis=1))),
        max_probability_difference=float(np.abs(found - original).max()),
        test_accuracy=float(np.mean(digits == labels)),
    )
