"""Test accuracies of a model whose weights have been quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnist_hpo.bundle.bundle import predictor_of
from mnist_hpo.bundle.reading import StoredModel
from mnist_hpo.data.held_out import load_test


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
