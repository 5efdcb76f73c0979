"""Validation digits of MNIST, and a model that reads digits."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples

N_EPOCHS = 8

Read = Callable[[NDArray[np.uint8]], NDArray[np.int64]]


@pytest.fixture(scope="session")
def valid_digits(mnist: PreparedDataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The 10,000 validation digits, u8[n, 28, 28], and their labels."""
    arrays = load_search(mnist.directory, "standard")
    return np.array(arrays.valid_images).reshape(-1, 28, 28), np.array(arrays.valid_labels)


@pytest.fixture(scope="session")
def read(mnist: PreparedDataset) -> Read:
    """Return a function that reads digits u8[n, 28, 28] with an MLP, trained briefly on slightly distorted digits."""
    arrays = load_search(mnist.directory, "standard")
    parameters = {"depth": 2, "width": 256, "batch_size": 100, "learning_rate": 2e-3, "schedule": "linear"}
    distortion = {"rotation": 10.0, "translation": 1.0, "scaling": 0.1, "shear": 8.0}
    train = Examples(arrays.train_images.reshape(-1, *arrays.image_shape), arrays.train_labels)
    config = TrainingConfig("mlp", parameters | distortion, seed=0, max_epochs=N_EPOCHS)
    learner = LearnerFactory().make(config, train, n_classes=10)
    state = learner.start()
    for epoch in range(1, N_EPOCHS + 1):
        state = learner.advance(state, epoch).state
    return lambda digits: learner.predict(state, digits[..., None]).argmax(axis=1)
