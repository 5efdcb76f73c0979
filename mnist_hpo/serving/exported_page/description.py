"""A model as JSON for the scripts of the page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import SURE
from mnist_hpo.bundle.quantization import WeightType, quantize
from mnist_hpo.bundle.reading import StoredModel
from mnist_hpo.bundle.writing import ENSEMBLE
from mnist_hpo.doubt.doubt import LEAST_ENTROPY, SHARPNESS, Doubt
from mnist_hpo.doubt.networks import DIGIT, NETWORKS, OTHER
from mnist_hpo.learners.catalog import MODELS, find_model
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.serving.model import summary_of
from mnist_hpo.serving.saliency import PATCH, STRIDE
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import FlaxModel, Tensors
from mnist_hpo.spec.operations import Operation
from mnist_hpo.spec.parameter import ParameterSet

_IMAGE_SHAPE, _N_CLASSES = (28, 28, 1), 10
_ALIGNMENT_BYTES = 4


def describe_model(stored: StoredModel, doubt: Doubt | None, weight_type: WeightType) -> dict[str, Any]:
    """Return the model as JSON.

    The page computes what the service computes with a model that is exported with this type of weights. The detector's
    weights are stored in bf16, to which its networks round them anyway.

    Args:
        stored: the model.
        doubt: by what its answers are doubtful; None if only improbable answers are.
        weight_type: the type of the weights.

    Raises:
        UserError: see `check_describable`.

    """
    check_describable(stored)
    model, arrays = stored.model, _Arrays()
    return {
        "summary": summary_of(stored.provenance, model.model),
        "network": _network(model.model, model.parameters, stored.tensors, arrays, weight_type),
        "doubt": None if doubt is None else _doubt(doubt, arrays),
        "settings": {"sure": SURE, "patch": PATCH, "stride": STRIDE},
        "arrays": arrays.description(),
    }


def check_describable(stored: StoredModel) -> None:
    """Check that a page can compute with a model.

    Raises:
        UserError: pages do not support this kind of model, or its images or classes are not those of digits.

    """
    model = stored.model
    if model.model == ENSEMBLE or _operations_of(model.model) is None:
        known = " and ".join(name for name in MODELS.names if _operations_of(name))
        raise UserError(f"a page cannot compute with a model of the kind {model.model}, only with {known}")
    if model.image_shape != _IMAGE_SHAPE or model.n_classes != _N_CLASSES:
        shape = "×".join(map(str, model.image_shape))
        raise UserError(
            f"a page needs a model of 28×28×1 pixels and {_N_CLASSES} classes, not of {shape} and {model.n_classes}"
        )


def _network(
    name: str, parameters: ParameterSet, tensors: Tensors, arrays: _Arrays, weight_type: WeightType
) -> dict[str, Any]:
    operations_of = _operations_of(name)
    assert operations_of is not None
    values = complete(name, parameters)
    return {
        "precision": values["precision"],
        "operations": [
            {
                "name": operation.name,
                "arrays": {role: arrays.add(array, weight_type) for role, array in operation.arrays.items()},
                "values": dict(operation.values),
            }
            for operation in operations_of(values, tensors)
        ],
    }


def _operations_of(name: str) -> Callable[[ParameterSet, Tensors], list[Operation]] | None:
    model = find_model(name)
    return model.operations if isinstance(model, FlaxModel) else None


def _doubt(doubt: Doubt, arrays: _Arrays) -> dict[str, Any]:
    networks = zip(NETWORKS, doubt.detector.networks, strict=True)
    return {
        "networks": [_network(model, parameters, tensors, arrays, "bf16") for (model, parameters), tensors in networks],
        "other": OTHER,
        "digit": DIGIT,
        **doubt.fields(),
        "sharpness": SHARPNESS,
        "leastEntropy": LEAST_ENTROPY,
    }


class _Arrays:
    """Collects arrays in one string of base64."""

    def __init__(self) -> None:
        self._index: dict[str, tuple[str, Sequence[int], int]] = {}
        self._content = bytearray()
        self._n_arrays = 0

    def add(self, array: NDArray[np.float32], weight_type: WeightType) -> str:
        """Add an array, and return its name; see `quantize` for the names under which its parts are stored."""
        name = str(self._n_arrays)
        self._n_arrays += 1
        for part, values in quantize({name: array}, weight_type).items():
            self._index[part] = (values.dtype.name, values.shape, len(self._content))
            self._content += values.astype(values.dtype.newbyteorder("<")).tobytes()
            self._content += bytes(-len(self._content) % _ALIGNMENT_BYTES)
        return name

    def description(self) -> dict[str, Any]:
        return {"index": self._index, "base64": base64.b64encode(self._content).decode()}
