"""Train the detector's networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.doubt.drawings import Drawings
from mnist_hpo.doubt.networks import DIGIT, N_CLASSES, NETWORKS, OTHER
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.parameter import ParameterSet

_N_EPOCHS = 8
_N_DIGITS, _N_REDRAWN, _N_OTHERS = 10_000, 10_000, 22_500


def train_detector(images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int) -> list[Tensors]:
    """Return the tensors of each network, trained on digits, redrawn digits and pictures without a digit.

    Args:
        images: digits u8[E, 784] to train on.
        labels: u8[E].
        seed: the detector is a function of the digits and this seed, on one kind of CPU.

    """
    examples = _examples(images, labels, seed)
    return [_train(model, parameters, examples, seed) for model, parameters in NETWORKS]


def _examples(images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int) -> Examples:
    drawings = Drawings(images.reshape(-1, 28, 28), labels, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:_N_DIGITS])
    digits = np.concatenate([images[chosen].reshape(-1, 28, 28), drawings.digits(_N_REDRAWN)])
    others = drawings.others(_N_OTHERS)
    pictures = np.concatenate([others, digits])[..., None]
    return Examples(pictures, np.repeat([OTHER, DIGIT], [len(others), len(digits)]).astype(np.uint8))


def _train(model: str, parameters: ParameterSet, examples: Examples, seed: int) -> Tensors:
    learner = LearnerFactory().make(TrainingConfig(model, parameters, seed, _N_EPOCHS), examples, n_classes=N_CLASSES)
    state = learner.start()
    for epoch in range(1, _N_EPOCHS + 1):
        state = learner.advance(state, epoch).state
    return learner.model(state)
