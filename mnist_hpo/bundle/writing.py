"""Write a model as a folder. Loads no JAX, so that a coordinator can.

`weights.safetensors` holds the weights by name, `model.json` all that is needed to use them, where they come from, and
a SHA-256 of each file's content, which every load checks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from mnist_hpo.bundle.replace import write_folder
from mnist_hpo.training.hyperparameters import Program

FORMAT = 2
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
WEIGHTS_SHA256, DESCRIPTION_SHA256 = "weights_sha256", "description_sha256"
"""Fields of the description: digests of the bytes of `weights.safetensors`, and of the description's other fields."""
_PREPROCESSING = {"input": "u8[n, n_features], row by row", "scale": "x / 255"}


def write_bundle(
    directory: Path, program: Program, weights: Mapping[str, NDArray[np.float32]], provenance: Mapping[str, Any]
) -> None:
    """Write a model as a folder, replacing what was there; a crash leaves the old model or the new one.

    Raises:
        OSError: it cannot be written; what was there is unchanged.

    """
    content = save(dict(weights))
    description = {
        "format": FORMAT,
        "program": {**dataclasses.asdict(program), "architecture": dict(program.architecture)},
        "preprocessing": _PREPROCESSING,
        "classes": [str(label) for label in range(program.n_classes)],
        "provenance": dict(provenance),
        WEIGHTS_SHA256: hashlib.sha256(content).hexdigest(),
    }
    description[DESCRIPTION_SHA256] = description_sha256(description)
    text = json.dumps(description, indent=2) + "\n"
    write_folder(directory, {WEIGHTS: content, DESCRIPTION: text.encode()})


def description_sha256(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description's canonical JSON, without the field that holds this digest."""
    fields = {name: value for name, value in description.items() if name != DESCRIPTION_SHA256}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
