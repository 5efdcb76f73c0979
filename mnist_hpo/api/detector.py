"""The detector of pictures without a digit, trained once for a dataset and kept beside it; the doubt of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from filelock import FileLock
from safetensors.numpy import save

from mnist_hpo.api.prediction import model_folder
from mnist_hpo.api.studies import recorded_study
from mnist_hpo.bundle.bundle import Bundle, load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.doubt.detector import train_detector
from mnist_hpo.doubt.doubt import Detector, Doubt
from mnist_hpo.executors.checkpoint_store import write_atomically
from mnist_hpo.home import Home
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import best_of
from mnist_hpo.storage.study_storage import StudyStorage

_FILE = "detector-1-{split}.safetensors"
"""The number is increased when a detector is trained in another way."""
_SEED = 0
_DIGITS = ("mnist", "emnist_digits")
"""The datasets whose images are digits."""


def doubt_of(record: StudyStorage, study: Study, home: Home, log: Callable[[str], None]) -> Doubt | None:
    """Return by what the answers of a study's model are doubtful, or None if its images are not digits.

    The threshold follows from the validation digits and the model of the search: the champion is trained on them.
    The process must have a worker's environment before JAX starts.

    Raises:
        UserError: the study has no model, or the detector cannot be written.

    """
    best = best_of(record.trials())
    if study.dataset not in _DIGITS or best is None:
        return None
    dataset = prepare(dataset_info(study.dataset), log=log)
    detector = _detector(dataset, study.split, log)
    images = np.asarray(load_search(dataset.directory, study.split).valid_images)
    searched = load_bundle(home.best_bundle(record, best.number))
    return Doubt.fit(detector, images, searched.log_probabilities(images))


def bundle_with_doubt(study: str, home: Home, log: Callable[[str], None]) -> Bundle:
    """Load the model of a study with its doubt; see `doubt_of` and `load_model`.

    Raises:
        UserError: the study has no model.

    """
    record, file = recorded_study(home.storage_url, study)
    bundle = load_bundle(model_folder(study, home.folder.parent, home.storage_url))
    return dataclasses.replace(bundle, doubt=doubt_of(record, file.study, home, log))


def _detector(dataset: PreparedDataset, split: str, log: Callable[[str], None]) -> Detector:
    path = dataset.directory / _FILE.format(split=split)
    try:
        # One process at a time trains it; the others wait and use its result.
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                log("training the detector of pictures without a digit, once for this dataset (a minute or two)")
                data = load_search(dataset.directory, split)
                networks = train_detector(np.asarray(data.train_images), np.asarray(data.train_labels), _SEED)
                write_atomically(path, save(dict(Detector(tuple(networks)).tensors())))
            return Detector.load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: the detector cannot be written: {error.strerror}") from error
