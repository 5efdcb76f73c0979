"""Read a model's folder, as `writing` makes it, check its digests, and predict with it."""

from __future__ import annotations

import hashlib
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
from safetensors.numpy import load

from mnist_hpo.bundle.writing import (
    DESCRIPTION,
    DESCRIPTION_SHA256,
    FORMAT,
    WEIGHTS,
    WEIGHTS_SHA256,
    description_sha256,
)
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
    """Read a model back, and check that no byte of it has changed since it was written.

    Models of format 1 carry no digests; they load without this check.

    Raises:
        UserError: it is not there, it has changed, or it is not a model of this format.

    """
    try:
        description: dict[str, Any] = json.loads((directory / DESCRIPTION).read_bytes())
        content = (directory / WEIGHTS).read_bytes()
        _check_format(directory, description)
        _check_digests(directory, description, content)
        weights = load(content)
        fields: dict[str, Any] = description["program"]
        fields["architecture"] = tuple(sorted(fields["architecture"].items()))
        bundle = Bundle(Program(**fields), weights, description["provenance"])
        shapes = shapes_of(bundle.program)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{directory}: not a model of mnist-hpo: {error}") from None
    for name in sorted(shapes.keys() | weights.keys()):
        has = weights[name].shape if name in weights else None
        if has != shapes.get(name):
            raise UserError(f"{directory}: the weights are not the model's: {name} is {has}, not {shapes.get(name)}")
    return bundle


def _check_format(directory: Path, description: dict[str, Any]) -> None:
    number = description["format"]
    if type(number) is not int or number < 1:
        raise ValueError(f"{DESCRIPTION} has the format {number!r}")
    if number > FORMAT:
        raise UserError(
            f"{directory}: a model of format {number}, from a newer mnist-hpo; this version reads up to {FORMAT}: "
            "upgrade mnist-hpo"
        )


def _check_digests(directory: Path, description: dict[str, Any], content: bytes) -> None:
    recorded = {name: description.get(name) for name in (WEIGHTS_SHA256, DESCRIPTION_SHA256)}
    # Digests are checked whatever the format says, so that a changed format number cannot switch the check off.
    if description["format"] == 1 and not any(recorded.values()):
        return
    # The description first: it holds the digest of the weights.
    for file, name, found in (
        (DESCRIPTION, DESCRIPTION_SHA256, description_sha256(description)),
        (WEIGHTS, WEIGHTS_SHA256, hashlib.sha256(content).hexdigest()),
    ):
        if recorded[name] != found:
            raise UserError(
                f"{directory}: {file} has changed since the model was written (its SHA-256 is {found[:12]}…, "
                f"{name} says {str(recorded[name])[:12]}…); restore the folder, or train the model again"
            )
