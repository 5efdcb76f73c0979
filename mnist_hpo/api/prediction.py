"""`mnist_hpo.load_model`: predict with a study's model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_hpo.analysis.champion_files import trial_report
from mnist_hpo.api.home import home_of
from mnist_hpo.api.process_state import keep_log_levels
from mnist_hpo.api.studies import champion_folder, is_file, recorded_study
from mnist_hpo.bundle.bundle import Bundle, load_bundle
from mnist_hpo.bundle.pixels import to_pixels
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import best_of


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A trained model in the memory of this process.

    It computes with this process's JAX settings. If these differ from a worker's (more threads, another device), the
    probabilities may differ from the tested ones in their last digits.
    """

    folder: Path
    """The folder from which the model was read."""
    _bundle: Bundle

    @property
    def provenance(self) -> dict[str, Any]:
        """The model's provenance: study, trial, seed, dataset digest."""
        return dict(self._bundle.provenance)

    def predict_proba(self, images: ArrayLike) -> NDArray[np.float32]:
        """Return the probability of each class, f32[n, n_classes].

        Args:
            images: raw pixels from 0 (background) to 255 (ink) of any integer or floating-point type; of MNIST, as
                [n, 784], [n, 28, 28] or [n, 28, 28, 1].

        Raises:
            UserError: the shape, the type or a value is unsupported. Nothing is scaled or rounded silently.

        """
        pixels = to_pixels(images, self._bundle.model.image_shape)
        return np.exp(self._bundle.log_probabilities(pixels))

    def predict(self, images: ArrayLike) -> NDArray[np.int64]:
        """Return the most probable class of each image, i64[n]; see `predict_proba`."""
        return self.predict_proba(images).argmax(axis=1).astype(np.int64)

    def __repr__(self) -> str:
        source = self.provenance
        return f"LoadedModel({self._bundle.model.model}, {source.get('study')}:{source.get('trial')}, {self.folder})"


@keep_log_levels()
def load_model(
    study: str | Path | Study, *, folder: str | Path | None = None, storage: str | None = None
) -> LoadedModel:
    """Load a trained model, and check that its files have not changed since they were written.

    Args:
        study: a study's name, its file (.yaml) or a `Study`. This loads its champion if the best trial has been
            re-trained, else the model that the search saved for the best trial. Or the folder of a model, as a `Path`
            or a string with a slash.
        folder: the folder that contains mlruns/; by default the working folder.
        storage: the Optuna storage's URL, instead of `MNIST_HPO_STORAGE` in the environment or the one in mlruns/.

    Raises:
        UserError: the model does not exist or is damaged.

    """
    directory = Path(study) if _is_model_folder(study) else model_folder(study, folder, storage)
    return LoadedModel(directory, load_bundle(directory))


def _is_model_folder(study: str | Path | Study) -> TypeGuard[str | Path]:
    if isinstance(study, Study):
        return False
    is_path = isinstance(study, Path) or is_file(study)
    return is_path and Path(study).suffix not in (".yaml", ".yml")


def model_folder(study: str | Path | Study, folder: str | Path | None, storage: str | None) -> Path:
    """Return the folder of a study's model: its champion's if the best trial has been re-trained, else the search's.

    The arguments are those of `load_model`.

    Raises:
        UserError: there is no such model.

    """
    home = home_of(folder, storage)
    record, _ = recorded_study(home.storage_url, study)
    best = best_of(record.trials())
    if best is None:
        raise UserError(f"no trial of {record.name!r} is complete yet, so it has no model; run the study first")
    champion = trial_report(champion_folder(home.folder, record), best.number).with_name("model")
    searched = home.best_bundle(record, best.number)
    for found in (champion, searched):
        if found.exists():
            return found
    raise UserError(
        f"{searched}: the model of trial {best.number} is missing; run {record.name!r} to its end in this folder, "
        "which writes it"
    )
