"""Write a model as a folder. Does not import JAX, so the coordinator can use it.

`weights.safetensors` contains the model's arrays by name. `model.json` contains the description of the model, its
provenance, and a SHA-256 of each file's content, which every load checks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from mnist_hpo.bundle.combination import Combination, Method
from mnist_hpo.bundle.replace import write_folder
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.parameter import ParameterSet

FORMAT = 3
"""Increased when an older version could misread a model. `bundle` reads all earlier formats."""
ENSEMBLE_FORMAT = 4
"""The format of an ensemble's folder. A single model is still written in format 3, so that older versions read it."""
ENSEMBLE = "ensemble"
"""The name of an ensemble where a model has the name of its kind."""
COMBINATION = "combination"
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
WEIGHTS_SHA256, DESCRIPTION_SHA256 = "weights_sha256", "description_sha256"
"""Fields of the description: digests of the bytes of `weights.safetensors`, and of the description's other fields."""
_PREPROCESSING = {"input": "u8[n, height, width, channels], or u8[n, n_features] row by row", "scale": "x / 255"}


@dataclass(frozen=True)
class ModelDescription:
    """Everything that is needed to use a model, except its arrays."""

    model: str
    """The model's name in study files."""
    parameters: ParameterSet
    """The hyperparameters of its training, including defaults."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    n_classes: int


def write_bundle(directory: Path, model: ModelDescription, tensors: Tensors, provenance: Mapping[str, Any]) -> None:
    """Write a model as a folder, atomically replacing the old one.

    Raises:
        OSError: the model cannot be written; the old one is unchanged.

    """
    _write(directory, FORMAT, model, tensors, provenance, {})


def write_ensemble(
    directory: Path,
    members: Sequence[tuple[ModelDescription, Tensors]],
    method: Method,
    combination: Combination,
    provenance: Mapping[str, Any],
) -> None:
    """Write an ensemble as a folder, atomically replacing the old one. The members' images and classes must be equal.

    The names of member k's arrays begin with `k/`, those of the combination with `combination/`.

    Raises:
        OSError: the ensemble cannot be written; the old one is unchanged.

    """
    first, _ = members[0]
    model = dataclasses.replace(first, model=ENSEMBLE, parameters={"method": method, "n_members": len(members)})
    tensors = {f"{COMBINATION}/{name}": np.asarray(array) for name, array in combination.items()}
    for index, (_, arrays) in enumerate(members):
        tensors |= {f"{index}/{name}": array for name, array in arrays.items()}
    described = [{"model": member.model, "parameters": dict(member.parameters)} for member, _ in members]
    _write(directory, ENSEMBLE_FORMAT, model, tensors, provenance, {"members": described})


def _write(
    directory: Path,
    number: int,
    model: ModelDescription,
    tensors: Tensors,
    provenance: Mapping[str, Any],
    more: Mapping[str, Any],
) -> None:
    content = save(dict(tensors))
    description = {
        "format": number,
        **dataclasses.asdict(model),
        **more,
        "preprocessing": _PREPROCESSING,
        "classes": [str(label) for label in range(model.n_classes)],
        "provenance": dict(provenance),
        WEIGHTS_SHA256: hashlib.sha256(content).hexdigest(),
    }
    description[DESCRIPTION_SHA256] = description_sha256(description)
    text = json.dumps(description, indent=2) + "\n"
    write_folder(directory, {WEIGHTS: content, DESCRIPTION: text.encode()})


def description_sha256(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description's canonical JSON, without the field for this digest."""
    fields = {name: value for name, value in description.items() if name != DESCRIPTION_SHA256}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
