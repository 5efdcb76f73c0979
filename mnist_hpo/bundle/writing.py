"""Write a model as a folder. Does not import JAX, so the coordinator can use it.

`model.safetensors` contains the model's arrays by name. `model.json` contains the description of the model, its
provenance, and size and SHA-256 of each other file, which every load checks.
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

FORMAT = 5
"""Increased when an older version could misread a model. `reading` reads all earlier formats."""
ENSEMBLE = "ensemble"
"""The name of an ensemble where a model has the name of its kind."""
COMBINATION = "combination"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
DOUBT, DOUBT_FILE = "doubt", "doubt.safetensors"
"""The field and the file of the model's `Doubt`, if it has one."""
FILES, DESCRIPTION_SHA256 = "files", "description_sha256"
"""Fields of the description: size and digest of each other file by name, and the digest of the other fields."""
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


@dataclass(frozen=True)
class Model:
    """What is written to a model's folder."""

    description: ModelDescription
    tensors: Tensors
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest and other entries about the origin of the model."""
    members: Sequence[Mapping[str, Any]] = ()
    """For an ensemble: the kind and the hyperparameters of each member."""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of the description, such as test figures."""
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Further files by name."""


def write_bundle(directory: Path, model: ModelDescription, tensors: Tensors, provenance: Mapping[str, Any]) -> None:
    """Write a model as a folder, atomically replacing the old one.

    Raises:
        OSError: the model cannot be written; the old one is unchanged.

    """
    write_folder(directory, folder_files(Model(model, tensors, provenance)))


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
    description = dataclasses.replace(first, model=ENSEMBLE, parameters={"method": method, "n_members": len(members)})
    tensors = {f"{COMBINATION}/{name}": np.asarray(array) for name, array in combination.items()}
    for index, (_, arrays) in enumerate(members):
        tensors |= {f"{index}/{name}": array for name, array in arrays.items()}
    described = [{"model": member.model, "parameters": dict(member.parameters)} for member, _ in members]
    write_folder(directory, folder_files(Model(description, tensors, provenance, described)))


def folder_files(model: Model) -> dict[str, bytes]:
    """Return the files of a model's folder by name."""
    files = {WEIGHTS: save(dict(model.tensors)), **model.files}
    description = {
        "format": FORMAT,
        **dataclasses.asdict(model.description),
        **({"members": list(model.members)} if model.members else {}),
        "preprocessing": _PREPROCESSING,
        "classes": [str(label) for label in range(model.description.n_classes)],
        **model.fields,
        "provenance": dict(model.provenance),
        FILES: {
            name: {"n_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(files.items())
        },
    }
    description[DESCRIPTION_SHA256] = description_sha256(description)
    return {**files, DESCRIPTION: (json.dumps(description, indent=2) + "\n").encode()}


def description_sha256(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description's canonical JSON, without the field for this digest."""
    fields = {name: value for name, value in description.items() if name != DESCRIPTION_SHA256}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
