"""Read a model's folder, as written by `writing`, and check its files.

Reading runs no code from the folder. A folder is refused if a file is changed, missing, unexpected, or no regular file.
Imports no JAX, so the coordinator can use it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from mnist_hpo.bundle.folder import read_folder
from mnist_hpo.bundle.quantization import dequantize
from mnist_hpo.bundle.writing import ENSEMBLE, FORMAT, WEIGHTS, ModelDescription
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.hyperparameters import parameters_of
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors

_MOST_MEMBERS, _MOST_CLASSES, _LONGEST_SIDE = 1000, 1000, 4096
_OLD_WEIGHTS = "weights.safetensors"
"""The name of the file of weights up to format 4."""


@dataclass(frozen=True)
class StoredModel:
    """The content of a model's folder."""

    model: ModelDescription
    tensors: Tensors
    """Its arrays by name: weights, batch statistics, support vectors. Quantized ones are converted back to fp32."""
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest and other entries that were written with the model."""
    members: tuple[Mapping[str, Any], ...]
    """For an ensemble: the kind and the hyperparameters of each member."""
    description: Mapping[str, Any]
    """All of `model.json`."""
    files: Mapping[str, bytes]
    """All files but `model.json`, by name."""


def read_model(directory: Path) -> StoredModel:
    """Read a model, and check that its files have not changed since they were written.

    Models of format 1 have no digests and are read without this check.

    Raises:
        UserError: the model is missing, has changed, or has another format.

    """
    with model_errors(directory):
        description, files = read_folder(directory, newest=FORMAT, old_weights=_OLD_WEIGHTS)
        weights = files[WEIGHTS if description["format"] >= 5 else _OLD_WEIGHTS]
        members = tuple(description.get("members", ()))
        model = _described(description)
        _check_members(model, members)
        tensors = dequantize(load(weights))
        return StoredModel(model, tensors, description["provenance"], members, description, files)


@contextlib.contextmanager
def model_errors(directory: Path) -> Generator[None]:
    """Raise `UserError` with the model's folder in the context where its content is not as expected."""
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
        SafetensorError,
    ) as error:
        raise UserError(f"{directory}: not a model of mnist-hpo: {error}") from None
    except UserError as error:
        message = str(error)
        raise (error if message.startswith(str(directory)) else UserError(f"{directory}: {message}")) from None


def _described(description: Mapping[str, Any]) -> ModelDescription:
    if description["format"] < 3:
        return _from_program(description["program"])
    height, width, channels = description["image_shape"]
    n_classes = description["n_classes"]
    for name, number, most in (
        ("image_shape", height, _LONGEST_SIDE),
        ("image_shape", width, _LONGEST_SIDE),
        ("image_shape", channels, _LONGEST_SIDE),
        ("n_classes", n_classes, _MOST_CLASSES),
    ):
        if type(number) is not int or not 1 <= number <= most:
            raise ValueError(f"{name} has {number!r}; it must be a whole number from 1 to {most}")
    return ModelDescription(description["model"], dict(description["parameters"]), (height, width, channels), n_classes)


def _from_program(program: Mapping[str, Any]) -> ModelDescription:
    """Convert the description of formats 1 and 2, which support only flat, square, greyscale images."""
    names = ("batch_size", "optimizer", "precision")
    parameters = {**program["architecture"], **{name: program[name] for name in names}}
    side = math.isqrt(program["n_features"])
    return ModelDescription(program["model"], parameters, (side, side, 1), program["n_classes"])


def _check_members(model: ModelDescription, members: tuple[Mapping[str, Any], ...]) -> None:
    """Refuse unknown architectures and hyperparameters outside their ranges, which could build a huge network."""
    if model.model != ENSEMBLE:
        _check_parameters(model.model, model.parameters)
        return
    if len(members) > _MOST_MEMBERS:
        raise ValueError(f"an ensemble of {len(members)} members; at most {_MOST_MEMBERS} are supported")
    for member in members:
        _check_parameters(member["model"], member["parameters"])


def _check_parameters(model: str, parameters: Mapping[str, Any]) -> None:
    find_model(model)
    known = parameters_of(model)
    for name, value in parameters.items():
        problem = known[name].problem(value) if name in known else "is unknown"
        if problem is not None and value is not None:
            raise ValueError(f"{model}.{name} {problem}")
