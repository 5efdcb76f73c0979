"""The prediction of an exported model as programs that other software runs, and how far their answers agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mnist_hpo.bundle.bundle import predictor_of
from mnist_hpo.bundle.portable import (
    LARGEST_DIFFERENCE,
    ONNX_FILE,
    OPSET,
    PLATFORMS,
    PROGRAMS,
    STABLEHLO_FILE,
    check_agreement,
    load_onnx,
    load_stablehlo,
    onnx_model,
    stablehlo,
)
from mnist_hpo.bundle.quantization import dequantize
from mnist_hpo.bundle.reading import StoredModel
from mnist_hpo.champion.accuracy import test_agreement
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import FlaxModel, Tensors


def converted(
    stored: StoredModel, tensors: Tensors, directory: Path, split: str, *, onnx: bool
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the programs by file name, and the field that describes them.

    Models of scikit-learn have none.

    Args:
        stored: the model.
        tensors: the arrays in the file of weights, which may be quantized.
        directory: the prepared dataset.
        split: the study's split.
        onnx: whether an ONNX model is wanted too; its answers are compared with the original's on all test images.

    Raises:
        UserError: an ONNX model is wanted, but the model cannot be converted; or the answers of a program differ.

    """
    if not onnx and not _is_network(stored):
        return {}, {}
    stored = dataclasses.replace(stored, tensors=dequantize(tensors))
    files = {STABLEHLO_FILE: stablehlo(stored, tensors)}
    fields: dict[str, Any] = {
        STABLEHLO_FILE: {"format": "jax.export", "platforms": list(PLATFORMS), **_arguments(tensors)}
    }
    check_agreement(stored, predictor_of(stored), load_stablehlo(files[STABLEHLO_FILE], tensors), "StableHLO program")
    if onnx:
        files[ONNX_FILE] = onnx_model(stored)
        agreement = test_agreement(stored, load_onnx(files[ONNX_FILE]), directory, split)
        if not agreement.max_probability_difference <= LARGEST_DIFFERENCE:  # Also if it is not a number.
            raise UserError(
                f"the ONNX model's probabilities differ from the original's by up to "
                f"{agreement.max_probability_difference:.3f}, so it is not written; please report this model"
            )
        fields[ONNX_FILE] = {"format": "onnx", "opset": OPSET, "checked": dataclasses.asdict(agreement)}
    return files, {PROGRAMS: fields}


def _is_network(stored: StoredModel) -> bool:
    kinds = [member["model"] for member in stored.members] or [stored.model.model]
    return all(isinstance(find_model(kind), FlaxModel) for kind in kinds)


def _arguments(tensors: Tensors) -> dict[str, Any]:
    return {"arguments": [*sorted(tensors), "images"], "returns": "log-probabilities f32[n, n_classes]"}
