"""Write a model as a folder. Loads no JAX, so that a coordinator can.

`weights.safetensors` holds the weights by name, `model.json` all that is needed to use them and where they come from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mnist_hpo.training.hyperparameters import Program

FORMAT = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
_PREPROCESSING = {"input": "u8[n, n_features], row by row", "scale": "x / 255"}


def write_bundle(
    directory: Path, program: Program, weights: Mapping[str, NDArray[np.float32]], provenance: Mapping[str, Any]
) -> None:
    """Write a model into a folder.

    Raises:
        OSError: it cannot be written.

    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), directory / WEIGHTS)
    description = {
        "format": FORMAT,
        "program": {**dataclasses.asdict(program), "architecture": dict(program.architecture)},
        "preprocessing": _PREPROCESSING,
        "classes": [str(label) for label in range(program.n_classes)],
        "provenance": dict(provenance),
    }
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
