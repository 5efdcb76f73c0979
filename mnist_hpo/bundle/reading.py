"""Read a model's folder, as written by `writing`, and check its digests.

Imports no JAX, so the coordinator can use it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from mnist_hpo.bundle.writing import (
    DESCRIPTION,
    DESCRIPTION_SHA256,
    ENSEMBLE_FORMAT,
    WEIGHTS,
    WEIGHTS_SHA256,
    ModelDescription,
    description_sha256,
)
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


@dataclass(frozen=True)
class StoredModel:
    """The content of a model's folder."""

    model: ModelDescription
    tensors: Tensors
    """Its arrays by name: weights, batch statistics, support vectors."""
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest and other entries that were written with the model."""
    members: tuple[Mapping[str, Any], ...]
    """For an ensemble: the kind and the hyperparameters of each member."""


def read_model(directory: Path) -> StoredModel:
    """Read a model, and check that its files have not changed since they were written.

    Models of format 1 have no digests and are read without this check.

    Raises:
        UserError: the model is missing, has changed, or has another format.

    """
    with model_errors(directory):
        description: dict[str, Any] = json.loads((directory / DESCRIPTION).read_bytes())
        content = (directory / WEIGHTS).read_bytes()
        _check_format(directory, description)
        _check_digests(directory, description, content)
        members = tuple(description.get("members", ()))
        return StoredModel(_described(description), load(content), description["provenance"], members)


@contextlib.contextmanager
def model_errors(directory: Path) -> Generator[None]:
    """Raise `UserError` with the model's folder in the context where its content is not as expected."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{directory}: not a model of mnist-hpo: {error}") from None
    except UserError as error:
        message = str(error)
        raise (error if message.startswith(str(directory)) else UserError(f"{directory}: {message}")) from None


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
