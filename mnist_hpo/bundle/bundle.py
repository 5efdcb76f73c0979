"""Read a model's folder, as `writing` makes it, and predict with it."""

from __future__ import annotations

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
from safetensors.numpy import load_file

from mnist_hpo.bundle.writing import DESCRIPTION, FORMAT, WEIGHTS
from mnist_hpo.spec.errors import UserError
from mnist_hpo.training import core
from mnist_hpo.training.hyperparameters import Program
from mnist_hpo.training.weights import shapes_of, structure_of, unnamed


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


def load_bundle(directory: Path) -> Bundle:
    """Read a model back.

    Raises:
        UserError: it is not there, or not a model of this format.

    """
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        weights = load_file(directory / WEIGHTS)
        if description["format"] != FORMAT:
            raise UserError(f"{directory}: a model of format {description['format']}; this version reads {FORMAT}")
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
