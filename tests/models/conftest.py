"""Digits for the tests of single models, and the training that several of them share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program


@pytest.fixture(scope="module")
def images(mnist: PreparedDataset) -> NDArray[np.uint8]:
    """The first 200 training images, uint8[200, 784]."""
    return np.array(load_search(mnist.directory, "standard").train_images[:200])


@pytest.fixture(scope="module")
def labels(mnist: PreparedDataset) -> NDArray[np.uint8]:
    """Their labels, uint8[200]."""
    return np.array(load_search(mnist.directory, "standard").train_labels[:200])


@pytest.fixture
def check_training(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Callable[[Program, float], None]:
    """A function that checks that 15 epochs with a dropout of 0.1 halve the loss, and that a repetition has equal bits.

    It takes a program with a batch size of 50, and a learning rate.
    """

    def check(program: Program, learning_rate: float) -> None:
        zero = np.float32(0)
        dynamics = core.Dynamics(np.float32(0.1), zero, zero, zero, zero)
        order = np.tile(np.arange(200, dtype=np.int32).reshape(4, 50), (15, 1))
        per_step = core.PerStep(np.full(len(order), learning_rate, np.float32))
        seed = np.array([1, 2], np.uint32)
        epoch = jax.jit(partial(core.train_epoch, program))
        runs: list[Any] = [
            epoch(initial_state(program, 1), images, labels, order, per_step, dynamics, seed) for _ in range(2)
        ]
        losses = np.asarray(runs[0][1])
        assert losses[-4:].mean() < 0.5 * losses[:4].mean()
        for first, second in zip(*map(jax.tree.leaves, runs), strict=True):
            np.testing.assert_array_equal(first, second)

    return check
