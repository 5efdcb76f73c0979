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

from mnist_hpo.bundle.combination import METHODS
from mnist_hpo.bundle.folder import read_folder
from mnist_hpo.bundle.quantization import dequantize
from mnist_hpo.bundle.writing import DESCRIPTION, ENSEMBLE, FORMAT, WEIGHTS, ModelDescription
from mnist_hpo.learners.hyperparameters import parameters_of
from mnist_hpo.learners.stored_weights import read_tensors
from mnist_hpo.spec.errors import UserError, shown
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.tensor_layout import check_finite

_MOST_MEMBERS, _MOST_CLASSES, _LONGEST_SIDE = 1000, 1000, 4096
_MOST_FEATURES = 1_000_000
"""Of an image: a model is tried with a blank one when it is loaded."""
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
    weights_name: str
    """The name of the file with the tensors."""


def read_model(directory: Path) -> StoredModel:
    """Read a model, and check that its files have not changed since they were written.

    Models of format 1 have no digests and are read without this check.

    Raises:
        UserError: the model is missing, has changed, or has another format.

    """
    with model_errors(directory):
        description, files = read_folder(directory, newest=FORMAT, old_weights=_OLD_WEIGHTS)
    with model_errors(directory / DESCRIPTION):
        members = tuple(description.get("members", ()))
        model = _described(description)
        _check_members(model, members)
        provenance = description["provenance"]
        if not isinstance(provenance, dict):
            raise TypeError("the provenance is not a JSON object")
    weights_name = WEIGHTS if description["format"] >= 5 else _OLD_WEIGHTS
    with model_errors(directory / weights_name):
        tensors = dequantize(read_tensors(files[weights_name]))
        check_finite(tensors)
    return StoredModel(model, tensors, provenance, members, description, files, weights_name)


@contextlib.contextmanager
def model_errors(place: Path) -> Generator[None]:
    """Raise `UserError` that begins with this folder or file of a model where its content is not as expected."""
    try:
        yield
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
        SafetensorError,
    ) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{place}: not a model of mnist-hpo: {problem}") from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _described(description: Mapping[str, Any]) -> ModelDescription:
    if description["format"] < 3:
        return _from_program(description["program"])
    shape = description["image_shape"]
    if not isinstance(shape, list) or len(shape) != 3:
        raise ValueError(f"image_shape has {shown(shape)}; it must be height, width and channels")
    height, width, channels = shape
    n_classes = description["n_classes"]
    for side in (height, width, channels):
        _check_number("image_shape", side, _LONGEST_SIDE)
    _check_number("n_features", height * width * channels, _MOST_FEATURES)
    _check_number("n_classes", n_classes, _MOST_CLASSES)
    return ModelDescription(description["model"], dict(description["parameters"]), (height, width, channels), n_classes)


def _check_number(name: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        raise ValueError(f"{name} has {shown(number)}; it must be a whole number from 1 to {most}")


def _from_program(program: Mapping[str, Any]) -> ModelDescription:
    """Convert the description of formats 1 and 2, which support only flat, square, greyscale images."""
    names = ("batch_size", "optimizer", "precision")
    parameters = {**program["architecture"], **{name: program[name] for name in names}}
    _check_number("n_features", program["n_features"], _MOST_FEATURES)
    _check_number("n_classes", program["n_classes"], _MOST_CLASSES)
    side = math.isqrt(program["n_features"])
    return ModelDescription(program["model"], parameters, (side, side, 1), program["n_classes"])


def _check_members(model: ModelDescription, members: tuple[Mapping[str, Any], ...]) -> None:
    """Refuse unknown architectures and hyperparameters outside their ranges, which could build a huge network."""
    if model.model != ENSEMBLE:
        _check_parameters(model.model, model.parameters)
        return
    if not 1 <= len(members) <= _MOST_MEMBERS:
        raise ValueError(f"an ensemble of {len(members)} members; 1 to {_MOST_MEMBERS} are supported")
    if (method := model.parameters["method"]) not in METHODS:
        raise ValueError(f"an ensemble by {shown(method)}; known are {', '.join(METHODS)}")
    for member in members:
        _check_parameters(member["model"], member["parameters"])


def _check_parameters(model: object, parameters: Mapping[str, Any]) -> None:
    if not isinstance(model, str):
        raise TypeError("the name of the model is not text")
    known = parameters_of(model)
    for name, value in parameters.items():
        problem = known[name].problem(value) if name in known else "is unknown"
        if problem is not None and value is not None:
            raise ValueError(f"{model}.{name} {problem}")
