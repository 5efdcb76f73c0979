"""The learner of scikit-learn estimators. Each epoch fits a new estimator, to more examples than the epoch before."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.protocol import Advanced, Examples, Predictor
from mnist_hpo.learners.sklearn.calibration import fit_inverse_temperature, log_softmax
from mnist_hpo.learners.subset import training_rows
from mnist_hpo.learners.training import mean
from mnist_hpo.spec.model import SklearnModel, Tensors
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.tensor_layout import check_layout

_INVERSE_TEMPERATURE = "inverse_temperature"


class SklearnLearner:
    """See `Learner`. Epoch e of E fits to the first e / E of the examples, in an order drawn with the seed.

    Args:
        model: the model.
        values: a value for each hyperparameter.
        config: the configuration to train.
        train: the training examples.
        n_classes: the number of classes.

    """

    compile_s = 0.0

    def __init__(
        self, model: SklearnModel, values: ParameterSet, config: TrainingConfig, train: Examples, n_classes: int
    ) -> None:
        self._model, self._values, self._n_classes = model, values, n_classes
        self._n_epochs = config.schedule_epochs or config.max_epochs
        n_train = int(values.get("n_train", len(train)))
        rows = training_rows(len(train), n_train, config.seed)
        n_held_back = int(n_train * float(values["calibration_share"]))
        self._held_back, self._learned = rows[:n_held_back], rows[n_held_back:]
        self._images, self._labels = _as_taken(model, train.images), train.labels

    def start(self) -> Tensors:
        """See `Learner.start`. Nothing is fitted yet."""
        return {}

    def advance(self, state: Tensors, epoch: int) -> Advanced:
        """See `Learner.advance`. The previous state is not used."""
        n_learned = -(-len(self._learned) * epoch // self._n_epochs)
        images, labels = self._take(self._learned[:n_learned])
        start = time.perf_counter()
        fitted = self._model.fit(images, labels, self._n_classes, self._values)
        train_s = time.perf_counter() - start
        others, their_labels = self._take(self._held_back)
        factor = fit_inverse_temperature(self._model.scores(fitted, others, self._values), their_labels)
        state = {**fitted, _INVERSE_TEMPERATURE: np.array(factor)}
        return Advanced(state, self._loss(state, images, labels), train_s)

    def predict(self, state: Tensors, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Learner.predict`."""
        return _log_probabilities(self._model, self._values, state, _as_taken(self._model, images))

    def model(self, state: Tensors) -> Tensors:
        """See `Learner.model`. It is the whole state."""
        return state

    def save(self, state: Tensors) -> Tensors:
        """See `Learner.save`."""
        return state

    def load(self, tensors: Tensors) -> Tensors:
        """See `Learner.load`."""
        return tensors

    def _take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._images[rows], self._labels[rows]

    def _loss(self, state: Tensors, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
        first = slice(self._model.max_train_loss_examples)
        found, labels = _log_probabilities(self._model, self._values, state, images[first]), labels[first]
        return mean(-found[np.arange(len(labels)), labels])


def make_predictor(
    model: SklearnModel, values: ParameterSet, image_shape: tuple[int, int, int], n_classes: int, tensors: Tensors
) -> Predictor:
    """Return a predictor from the tensors that `SklearnLearner.model` returned.

    Raises:
        ValueError: the tensors are not those of the model.

    """

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _log_probabilities(model, values, tensors, _as_taken(model, images.reshape(len(images), *image_shape)))

    try:
        _check_tensors(model, values, math.prod(image_shape), n_classes, tensors)
        found = predict(np.zeros((1, *image_shape), np.uint8)).shape
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ValueError(f"the tensors are not the model's: {error}") from None
    if found != (1, n_classes):
        raise ValueError(f"the tensors are not the model's: they give {found[1:]} probabilities, not {n_classes}")
    return predict


def _check_tensors(
    model: SklearnModel, values: ParameterSet, n_features: int, n_classes: int, tensors: Tensors
) -> None:
    own = dict(tensors)
    factor = {_INVERSE_TEMPERATURE: own.pop(_INVERSE_TEMPERATURE)}
    check_layout(factor, {_INVERSE_TEMPERATURE: "float"}, {})
    if factor[_INVERSE_TEMPERATURE] <= 0:
        raise ValueError(f"{_INVERSE_TEMPERATURE} is not positive")
    if model.check is not None:
        model.check(own, n_features, n_classes, values)


def _log_probabilities(
    model: SklearnModel, values: ParameterSet, state: Tensors, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    scores = model.scores(state, images, values)
    return log_softmax(scores, float(state[_INVERSE_TEMPERATURE])).astype(np.float32)


def _as_taken(model: SklearnModel, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images u8[E, H, W, C] in the shape that the model takes."""
    return images if model.images == "shaped" else images.reshape(len(images), math.prod(images.shape[1:]))
