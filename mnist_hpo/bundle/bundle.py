"""Read a model's folder, as written by `writing`, and predict with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.combination import Combination, Method, combine
from mnist_hpo.bundle.reading import StoredModel, model_errors, read_model
from mnist_hpo.bundle.writing import COMBINATION, DOUBT, DOUBT_FILE, ENSEMBLE, ModelDescription
from mnist_hpo.doubt.doubt import Detector, Doubt
from mnist_hpo.learners.factory import make_predictor
from mnist_hpo.learners.protocol import Predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors

SURE = 0.5
"""An answer with a lower probability is doubtful."""


class Answers(NamedTuple):
    """A model's answers for n images."""

    probabilities: NDArray[np.float32]
    """f32[n, n_classes]; the digit is the most probable class."""
    doubtful: NDArray[np.bool_]
    """bool[n]: whether the image may not show any digit, or the digit may be another one."""


@dataclass(frozen=True)
class Bundle:
    """A loaded model."""

    model: ModelDescription
    tensors: Tensors
    """Its arrays by name: weights, batch statistics, support vectors."""
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest and other entries that were written with the model."""
    predictor: Predictor
    doubt: Doubt | None = None
    """None: the model was written without a detector, and only improbable answers are doubtful."""

    def log_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[n, n_classes] for images u8[n, n_features] or u8[n, height, width, channels].

        Raises:
            UserError: the weights are so large that the probabilities are not numbers.

        """
        found = self.predictor(images.reshape(len(images), *self.model.image_shape))
        if np.isnan(found).any():
            raise UserError("the model's probabilities are not numbers: its weights are too large; train it again")
        return found

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Return the answers for images u8[n, n_features] or u8[n, height, width, channels].

        Raises:
            UserError: see `log_probabilities`.

        """
        found = self.log_probabilities(images)
        probabilities = np.exp(found)
        blank = ~images.reshape(len(images), -1).any(axis=1)
        if self.doubt is None:
            return Answers(probabilities, blank | (probabilities.max(axis=1) < SURE))
        return Answers(probabilities, blank | self.doubt.doubtful(images, found))


def load_bundle(directory: Path) -> Bundle:
    """Read a model, and check that its files have not changed since they were written.

    Models of format 1 have no digests and are loaded without this check.

    Raises:
        UserError: the model is missing, has changed, or has another format.

    """
    return bundle_of(read_model(directory), directory)


def bundle_of(stored: StoredModel, directory: Path) -> Bundle:
    """Return the loaded model for what was read from a folder.

    Raises:
        UserError: its tensors or its detector are not as expected.

    """
    with model_errors(directory / stored.weights_name):
        predictor = predictor_of(stored)
    with model_errors(directory / DOUBT_FILE):
        doubt = _doubt(stored)
    return Bundle(stored.model, stored.tensors, stored.provenance, predictor, doubt)


def _doubt(stored: StoredModel) -> Doubt | None:
    if DOUBT not in stored.description:
        return None
    if stored.model.image_shape != (28, 28, 1):
        raise ValueError("a detector of pictures without a digit needs images of 28 × 28 pixels")
    return Doubt.load(stored.description[DOUBT], Detector.load(stored.files[DOUBT_FILE]))


def predictor_of(stored: StoredModel) -> Predictor:
    """Return the predictor of a stored model.

    Raises:
        UserError: there is no such kind of model.
        ValueError, KeyError: the tensors are not those of the model.

    """
    model, tensors = stored.model, stored.tensors
    if model.model != ENSEMBLE:
        return make_predictor(model.model, model.parameters, model.image_shape, model.n_classes, tensors)
    members = [
        make_predictor(
            member["model"], member["parameters"], model.image_shape, model.n_classes, within(tensors, str(index))
        )
        for index, member in enumerate(stored.members)
    ]
    method, combination = _checked_combination(model, len(members), within(tensors, COMBINATION))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return combine(method, combination, np.stack([member(images) for member in members]))

    return predict


def within(tensors: Tensors, prefix: str) -> Tensors:
    """Return the arrays whose names begin with `prefix/`, without the prefix."""
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}


def _checked_combination(model: ModelDescription, n_members: int, combination: Tensors) -> tuple[Method, Combination]:
    method, n = cast(Method, model.parameters["method"]), model.n_classes
    shapes = (
        {"coefficients": (n_members * n, n), "intercepts": (n,)} if method == "stacking" else {"weights": (n_members,)}
    )
    if {name: array.shape for name, array in combination.items()} != shapes:
        raise ValueError("the combination of the members does not fit to them")
    if any(array.dtype != np.float64 for array in combination.values()):
        raise ValueError("the combination of the members is not float64")
    if method != "stacking" and not (combination["weights"].min() >= 0 < combination["weights"].sum() < math.inf):
        raise ValueError("the weights of the members are negative, or all zero")
    return method, combination
