"""A small network with initial weights, to be written as a bundle."""

import numpy as np

from mnist_hpo.bundle.writing import ModelDescription
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.spec.model import Tensors

PARAMETERS = {"depth": 2, "width": 24, "activation": "tanh", "dropout": 0.3, "batch_size": 50, "precision": "fp32"}


MODEL = ModelDescription("mlp", PARAMETERS, (28, 28, 1), 10)


def weights_of(seed: int) -> Tensors:
    blank = Examples(np.zeros((1, 28, 28, 1), np.uint8), np.zeros(1, np.uint8))
    learner = LearnerFactory().make(TrainingConfig("mlp", PARAMETERS, seed, 1), blank, n_classes=10)
    return learner.model(learner.start())
