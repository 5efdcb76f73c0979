"""Write a model as a folder, read it back, predict with it.

`weights.safetensors` holds the weights by name, `model.json` all that is needed to use them and where they come from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mnist_hpo.spec.errors import UserError
from mnist_hpo.training import core
from mnist_hpo.training.hyperparameters import Program
from mnist_hpo.training.weights import shapes_of, structure_of, unnamed

_FORMAT = 1
_WEIGHTS, _DESCRIPTION = "weights.safetensors", "model.json"
_PREPROCESSING = {"input": "u8[n, n_features], row by row", "scale": "x / 255"}


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict."""

    program: Program
    weights: Mapping[str, NDArray[np.float32]]
    provenance: Mapping[str, Any]
    """Study, trial, seed, dataset digest, versions, measures: whatever the writer knew."""

    def log_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return f32[n, n_classes] for images u8[n, n_features]."""
        return np.asarray(self._predict(self._parameters, images))

    @cached_property
    def _parameters(self) -> core.Parameters:
        return unnamed(structure_of(self.program), self.weights)

    @cached_property
    def _predict(self) -> Any:
        return jax.jit(partial(core.predict, self.program))


def write_bundle(
    directory: Path, program: Program, weights: Mapping[str, NDArray[np.float32]], provenance: Mapping[str, Any]
) -> None:
    """Write a model into a folder.

    Raises:
        OSError: it cannot be written.

    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), directory / _WEIGHTS)
    description = {
        "format": _FORMAT,
        "program": {**dataclasses.asdict(program), "architecture": dict(program.architecture)},
        "preprocessing": _PREPROCESSING,
        "classes": [str(label) for label in range(program.n_classes)],
        "provenance": dict(provenance),
    }
    (directory / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def load_bundle(directory: Path) -> Bundle:
    """Read a model back.

    Raises:
        UserError: it is not there, or not a model of this format.

    """
    try:
        description = json.loads((directory / _DESCRIPTION).read_text())
        weights = load_file(directory / _WEIGHTS)
        if description["format"] != _FORMAT:
            raise UserError(f"{directory}: a model of format {description['format']}; this version reads {_FORMAT}")
        fields: dict[str, Any] = description["program"]
        fields["architecture"] = tuple(sorted(fields["architecture"].items()))
        bundle = Bundle(Program(**fields), weights, description["provenance"])
        shapes = shapes_of(bundle.program)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(f"{directory}: not a model of mnist-hpo: {error}") from None
    for name in sorted(shapes.keys() | weights.keys()):
        has = weights[name].shape if name in weights else None
        if has != shapes.get(name):
            raise UserError(f"{directory}: the weights are not the model's: {name} is {has}, not {shapes.get(name)}")
    return bundle
