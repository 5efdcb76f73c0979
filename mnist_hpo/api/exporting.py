"""Export a study's model as a folder to hand on: with its test figures, and with the detector of non-digits.

The process must have a worker's environment before JAX starts.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from mnist_hpo.analysis.champion_files import read_champion_test, trial_report
from mnist_hpo.api.converting import converted
from mnist_hpo.api.detector import doubt_of
from mnist_hpo.api.prediction import model_folder
from mnist_hpo.api.studies import champion_folder, recorded_study
from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.quantization import WeightType, dequantize, quantize
from mnist_hpo.bundle.reading import StoredModel, read_model
from mnist_hpo.bundle.replace import write_folder
from mnist_hpo.bundle.writing import DOUBT, DOUBT_FILE, Model, folder_files
from mnist_hpo.champion.accuracy import test_accuracies
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.home import Home
from mnist_hpo.serving.exported_page.description import check_describable, describe_model
from mnist_hpo.serving.exported_page.page import exported_page
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import best_of
from mnist_hpo.storage.study_storage import StudyStorage

PAGE_WEIGHT_TYPES: tuple[WeightType, ...] = ("bf16", "int8")
"""The types of weights that a page may contain."""


@dataclass(frozen=True)
class Exported:
    """An exported model."""

    folder: Path
    description: Mapping[str, Any]
    """The content of `model.json`."""
    n_bytes: int
    """Size of all files."""


def export_model(
    study: str, folder: Path, home: Home, *, weight_type: WeightType, onnx: bool, log: Callable[[str], None]
) -> Exported:
    """Write the model of a study's best trial to a folder, replacing an older one.

    It is the champion's model if the best trial has been re-trained, else the model of the search.

    Args:
        study: the study's name or its file.
        folder: where to write it.
        home: holds the study.
        weight_type: the type of the weights in the file; predictions compute in the model's precision.
        onnx: whether to write an ONNX model too.
        log: called with each line of progress.

    Raises:
        UserError: the study has no model, the folder contains something else, it cannot be written, or the model
            cannot be converted to ONNX.

    """
    _check_folder(folder)
    record, file = recorded_study(home.storage_url, study)
    stored = read_model(model_folder(study, home.folder.parent, home.storage_url))
    dataset = prepare(dataset_info(file.study.dataset), log=log)
    tensors = quantize(stored.tensors, weight_type)
    files, fields = converted(stored, tensors, dataset.directory, file.study.split, onnx=onnx)
    doubt = doubt_of(record, file.study, home, log)
    if doubt is not None:
        files[DOUBT_FILE], fields[DOUBT] = save(dict(doubt.detector.tensors())), doubt.fields()
    fields |= _test_fields(record, home) | _weights(stored, tensors, weight_type, dataset, file.study)
    origin = {**stored.provenance, "exported_by": provenance()}
    content = folder_files(Model(stored.model, tensors, origin, stored.members, fields, files))
    try:
        _put_in_place(folder, content)
    except OSError as error:
        raise UserError(f"{folder}: the model cannot be written: {error.strerror}") from error
    load_bundle(folder)
    return Exported(folder, read_model(folder).description, sum(map(len, content.values())))


def export_page(study: str, home: Home, *, weight_type: WeightType, log: Callable[[str], None]) -> bytes:
    """Return the model of a study's best trial as one HTML page to draw on, which computes in the browser.

    The arguments are those of `export_model`, and the model is the same.

    Raises:
        UserError: the study has no model, or a page cannot compute with it.

    """
    record, file = recorded_study(home.storage_url, study)
    stored = read_model(model_folder(study, home.folder.parent, home.storage_url))
    check_describable(stored)
    return exported_page(describe_model(stored, doubt_of(record, file.study, home, log), weight_type))


def _check_folder(folder: Path) -> None:
    """Refuse to replace anything but an older model or an empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        try:
            read_model(folder)
        except UserError as error:
            raise UserError(f"{folder} exists, and is not replaced because it is no model: {error}") from None


def _put_in_place(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write the files to a temporary folder beside `folder`, then move it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".mnist-hpo-export-") as beside:
        new = Path(beside) / "new"
        write_folder(new, content)
        if folder.exists():
            folder.rename(Path(beside) / "old")
        new.rename(folder)


def _test_fields(record: StudyStorage, home: Home) -> dict[str, Any]:
    best = best_of(record.trials())
    test = None if best is None else read_champion_test(trial_report(champion_folder(home.folder, record), best.number))
    return {} if test is None else {"test": test.model_dump(mode="json")}


def _weights(
    stored: StoredModel, tensors: Mapping[str, Any], weight_type: WeightType, dataset: PreparedDataset, study: Study
) -> dict[str, Any]:
    """Return the type of the weights; where they are quantized, size and test accuracy before and after."""
    if weight_type == "fp32":
        return {"weights": {"type": weight_type}}
    quantized = dataclasses.replace(stored, tensors=dequantize(tensors))
    accuracies = test_accuracies([stored, quantized], dataset.directory, study.split)
    sizes = (len(save(dict(arrays))) for arrays in (stored.tensors, tensors))
    before, after = ({"n_bytes": n, "test_accuracy": a} for n, a in zip(sizes, accuracies, strict=True))
    return {"weights": {"type": weight_type, "before": before, "after": after}}
