"""Read a model's folder, as written by `writing`, check its digests, and predict with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from mnist_hpo.bundle.combination import METHODS, Combination, Method, combine
from mnist_hpo.bundle.writing import (
    COMBINATION,
    DESCRIPTION,
    DESCRIPTION_SHA256,
    ENSEMBLE,
    ENSEMBLE_FORMAT,
    WEIGHTS,
    WEIGHTS_SHA256,
    ModelDescription,
    description_sha256,
)
from mnist_hpo.learners.factory import make_predictor
from mnist_hpo.learners.protocol import Predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


@dataclass(frozen=True)
class Bundle:
    """A loaded model."""

    model: ModelDescription
    tensors: Tensors
    """Its arrays by name: weights, batch statistics, support vectors."""
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest and other entries that were written with the model."""
    predictor: Predictor

    def log_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return log-probabilities f32[n, n_classes] for images u8[n, n_features] or u8[n, height, width, channels]."""
        return self.predictor(images.reshape(len(images), *self.model.image_shape))


def load_bundle(directory: Path) -> Bundle:
    """Read a model, and check that its files have not changed since they were written.

    Models of format 1 have no digests and are loaded without this check.

    Raises:
        UserError: the model is missing, has changed, or has another format.

    """
    try:
        description: dict[str, Any] = json.loads((directory / DESCRIPTION).read_bytes())
        content = (directory / WEIGHTS).read_bytes()
        _check_format(directory, description)
        _check_digests(directory, description, content)
        model, provenance, tensors = _described(description), description["provenance"], load(content)
        predictor = _predictor(model, description, tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{directory}: not a model of mnist-hpo: {error}") from None
    except UserError as error:
        message = str(error)
        raise (error if message.startswith(str(directory)) else UserError(f"{directory}: {message}")) from None
    return Bundle(model, tensors, provenance, predictor)


def _predictor(model: ModelDescription, description: dict[str, Any], tensors: Tensors) -> Predictor:
    if model.model != ENSEMBLE:
        return make_predictor(model.model, model.parameters, model.image_shape, model.n_classes, tensors)
    members = [
        make_predictor(
            member["model"], member["parameters"], model.image_shape, model.n_classes, _within(tensors, str(index))
        )
        for index, member in enumerate(description["members"])
    ]
    method, combination = _checked_combination(model, len(members), _within(tensors, COMBINATION))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return combine(method, combination, np.stack([member(images) for member in members]))

    return predict


def _within(tensors: Tensors, prefix: str) -> Tensors:
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}


def _checked_combination(model: ModelDescription, n_members: int, combination: Tensors) -> tuple[Method, Combination]:
    method = model.parameters["method"]
    if method not in METHODS:
        raise ValueError(f"an ensemble by {method!r}; known are {', '.join(METHODS)}")
    n = model.n_classes
    shapes = (
        {"coefficients": (n_members * n, n), "intercepts": (n,)} if method == "stacking" else {"weights": (n_members,)}
    )
    if n_members == 0 or {name: array.shape for name, array in combination.items()} != shapes:
        raise ValueError("the combination of the members does not fit to them")
    return method, combination


def _described(description: dict[str, Any]) -> ModelDescription:
    if description["format"] < 3:
        return _from_program(description["program"])
    height, width, channels = description["image_shape"]
    return ModelDescription(
        description["model"], dict(description["parameters"]), (height, width, channels), description["n_classes"]
    )


def _from_program(program: dict[str, Any]) -> ModelDescription:
    """Convert the description of formats 1 and 2, which support only flat, square, greyscale images."""
    names = ("batch_size", "optimizer", "precision")
    parameters = {**program["architecture"], **{name: program[name] for name in names}}
    side = math.isqrt(program["n_features"])
    return ModelDescription(program["model"], parameters, (side, side, 1), program["n_classes"])


def _check_format(directory: Path, description: dict[str, Any]) -> None:
    number = description["format"]
    if type(number) is not int or number < 1:
        raise ValueError(f"{DESCRIPTION} has the format {number!r}")
    if number > ENSEMBLE_FORMAT:
        raise UserError(
            f"{directory}: a model of format {number}, from a newer mnist-hpo; this version reads up to "
            f"{ENSEMBLE_FORMAT}: upgrade mnist-hpo"
        )


def _check_digests(directory: Path, description: dict[str, Any], content: bytes) -> None:
    recorded = {name: description.get(name) for name in (WEIGHTS_SHA256, DESCRIPTION_SHA256)}
    # Digests are checked for any format, so that a changed format number cannot disable the check.
    if description["format"] == 1 and not any(recorded.values()):
        return
    # Check the description first, since it contains the digest of the weights.
    for file, name, found in (
        (DESCRIPTION, DESCRIPTION_SHA256, description_sha256(description)),
        (WEIGHTS, WEIGHTS_SHA256, hashlib.sha256(content).hexdigest()),
    ):
        if recorded[name] != found:
            raise UserError(
                f"{directory}: {file} has changed since the model was written (its SHA-256 is {found[:12]}…, "
                f"{name} says {str(recorded[name])[:12]}…); restore the folder, or train the model again"
            )
