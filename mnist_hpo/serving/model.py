"""A model that is ready to answer requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import Answers, Bundle, load_bundle
from mnist_hpo.bundle.portable import Runtime, load_with_onnx_runtime
from mnist_hpo.bundle.reading import model_errors
from mnist_hpo.doubt.doubt import Doubt
from mnist_hpo.serving.batching import padded_sizes
from mnist_hpo.spec.errors import UserError

_IN_ANSWERS = ("study", "trial", "seed")
"""The entries of the provenance that each answer names."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from."""

    folder: Path
    version: str | None = None
    """Its version in the registry, if it comes from there."""
    doubt: Doubt | None = None
    """By what its answers are doubtful, if the folder does not have that itself."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded model."""

    bundle: Bundle
    version: str | None
    loaded: float = field(default_factory=time.time)
    """Seconds since the epoch."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.bundle.model.image_shape

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """See `Bundle.answer`."""
        return self.bundle.answer(images)

    def warm_up(self, max_images: int) -> None:
        """Compile all sizes of batches.

        Raises:
            UserError: the model's probabilities are not numbers.

        """
        n_features = int(np.prod(self.image_shape))
        for size in padded_sizes(max_images):
            if not np.isfinite(self.answer(np.zeros((size, n_features), np.uint8)).probabilities).all():
                raise UserError(f"the model's probabilities are not numbers: {self.name}")

    @property
    def name(self) -> str:
        """A short text such as `quickstart, trial 7, version 3`."""
        found = self.summary()
        return ", ".join([str(found.pop("study", "a model")), *(f"{name} {value}" for name, value in found.items())])

    def summary(self) -> dict[str, Any]:
        """Return the entry `model` of answers."""
        found = summary_of(self.bundle.provenance, self.bundle.model.model)
        return found | ({} if self.version is None else {"version": self.version})

    def describe(self, max_images: int) -> Mapping[str, Any]:
        """Return the answer to `GET /v1/model`."""
        model = self.bundle.model
        return {
            **self.summary(),
            "hyperparameters": dict(model.parameters),
            "image_shape": model.image_shape,
            "classes": list(range(model.n_classes)),
            "provenance": dict(self.bundle.provenance),
            "max_images": max_images,
            "loaded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.loaded)),
        }


def summary_of(provenance: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return by what answers name a model without a version: its study, trial, seed and kind."""
    return {name: provenance[name] for name in _IN_ANSWERS if name in provenance} | {"kind": kind}


def load_served_model(source: ModelSource, max_images: int, runtime: Runtime) -> ServedModel:
    """Load a model and compile it.

    Raises:
        UserError: it is no model, takes no images of 28 × 28 grey pixels, or the runtime cannot predict with it.

    """
    load = load_with_onnx_runtime if runtime == "onnx" else load_bundle
    bundle = load(source.folder)
    model = ServedModel(replace(bundle, doubt=bundle.doubt or source.doubt), source.version)
    model.warm_up(max_images)
    with model_errors(source.folder):  # Not all that JSON may contain can be written again.
        orjson.dumps(model.describe(max_images))
    return model
