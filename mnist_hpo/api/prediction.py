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
    """A trained model, in the memory of this process.

    It computes with JAX as this process has set it up. With other settings than a worker's (more threads, another
    device) probabilities may differ from the tested ones in their last digits.
    """

    folder: Path
    """Where it was read from."""
    _bundle: Bundle

    @property
    def provenance(self) -> dict[str, Any]:
        """Study, trial, seed, dataset digest: where it comes from."""
        return dict(self._bundle.provenance)

    def predict_proba(self, images: ArrayLike) -> NDArray[np.float32]:
        """The probability of each class, f32[n, n_classes].

        Args:
            images: raw pixels from 0 (background) to 255 (ink) of any integer or floating-point type; of MNIST, as
                [n, 784], [n, 28, 28] or [n, 28, 28, 1].

        Raises:
            UserError: the shape, the type or a value is another one. Nothing is scaled or rounded silently.

        """
        pixels = to_pixels(images, self._bundle.model.image_shape)
        return np.exp(self._bundle.log_probabilities(pixels))

    def predict(self, images: ArrayLike) -> NDArray[np.int64]:
        """The most probable class of each image, i64[n]; see `predict_proba`."""
        return self.predict_proba(images).argmax(axis=1).astype(np.int64)

    def __repr__(self) -> str:
        source = self.provenance
        return f"LoadedModel({self._bundle.model.model}, {source.get('study')}:{source.get('trial')}, {self.folder})"


@keep_log_levels()
def load_model(
    study: str | Path | Study, *, folder: str | Path | None = None, storage: str | None = None
) -> LoadedModel:
    """Load a trained model, and check that no byte of it has changed since it was written.

    Args:
        study: a study's name, its file (.yaml) or a `Study`: its champion if the best trial has been re-trained, else
            the best trial's model as the search left it. Or the folder of a model, as a `Path` or with a slash in it.
        folder: the folder that holds mlruns/; by default the working folder.
        storage: the Optuna storage's URL, if it is not the one in mlruns/ or of the environment's `MNIST_HPO_STORAGE`.

    Raises:
        UserError: there is no such model, or it is damaged.

    """
    directory = Path(study) if _is_model_folder(study) else _model_folder(study, folder, storage)
    return LoadedModel(directory, load_bundle(directory))


def _is_model_folder(study: str | Path | Study) -> TypeGuard[str | Path]:
    if isinstance(study, Study):
        return False
    is_path = isinstance(study, Path) or is_file(study)
    return is_path and Path(study).suffix not in (".yaml", ".yml")


def _model_folder(study: str | Path | Study, folder: str | Path | None, storage: str | None) -> Path:
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
        f"{searched}: the model of trial {best.number} is not there; run {record.name!r} to its end in this folder, "
        "which writes it"
    )
