"""Find the model that a study serves: the registry's champion, else the model of its best trial."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_hpo.api.detector import doubt_of
from mnist_hpo.api.prediction import model_folder
from mnist_hpo.api.studies import recorded_study, study_name
from mnist_hpo.bundle.writing import DESCRIPTION
from mnist_hpo.doubt.doubt import Doubt
from mnist_hpo.home import Home
from mnist_hpo.serving.model import ModelSource
from mnist_hpo.spec.errors import UserError
from mnist_hpo.tracking.database import local_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ALIAS = "champion"


class RegisteredChampion:
    """The champion of a study in MLflow's registry.

    Args:
        study: the study's name or its file.
        tracking_uri: MLflow's tracking store or server.
        doubt: by what the answers of its models are doubtful.

    """

    def __init__(self, study: str, tracking_uri: str, doubt: Doubt | None = None) -> None:
        self._name, self._tracking_uri, self._doubt = study_name(study), tracking_uri, doubt
        self._folders = list[tempfile.TemporaryDirectory[str]]()
        """With the files of the versions so far. They are removed when the process ends."""

    def version(self) -> str | None:
        """Return the version that has the alias champion, or None if there is none.

        Raises:
            UserError: the registry cannot be read.

        """
        database = local_database(self._tracking_uri)
        if database is not None and not database.exists():
            return None
        from mlflow.exceptions import MlflowException

        from mnist_hpo.tracking.client import user_errors

        with user_errors(self._tracking_uri):
            try:
                return str(self._client().get_model_version_by_alias(self._name, _ALIAS).version)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def fetch(self, version: str) -> ModelSource:
        """Copy the files of a version to a temporary folder.

        Raises:
            UserError: the registry cannot be read, or the version has no model of mnist-hpo.

        """
        import mlflow.artifacts

        from mnist_hpo.tracking.client import user_errors

        folder = tempfile.TemporaryDirectory(prefix="mnist-hpo-champion-")
        with user_errors(self._tracking_uri):
            source = self._client().get_model_version(self._name, version).source
            copied = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=folder.name, tracking_uri=self._tracking_uri
            )
        found = list(Path(copied).glob(f"artifacts/*/{DESCRIPTION}"))
        if len(found) != 1:
            raise UserError(f"version {version} of the registered model {self._name} is no model of mnist-hpo")
        self._folders.append(folder)
        return ModelSource(found[0].parent, version, self._doubt)

    def _client(self) -> MlflowClient:
        from mnist_hpo.tracking.client import connect

        return connect(self._tracking_uri)


def served_model(
    study: str, storage: str, tracking_uri: str, folder: Path, log: Callable[[str], None]
) -> tuple[ModelSource, RegisteredChampion]:
    """Return a study's registered champion, else the model of its best trial; and the registry's champion to follow.

    The process must have a worker's environment before JAX starts.

    Args:
        study: the study's name or its file.
        storage: the Optuna storage. It may lack the study if that is in the registry; then there is no detector.
        tracking_uri: MLflow's tracking store or server.
        folder: the folder of checkpoints and champions.
        log: called with each line of progress.

    Raises:
        UserError: the study has no model.

    """
    version = RegisteredChampion(study, tracking_uri).version()
    try:
        record, file = recorded_study(storage, study)
        doubt = doubt_of(record, file.study, Home(storage, tracking_uri, folder), log)
    except UserError:
        if version is None:
            raise
        doubt = None
    champion = RegisteredChampion(study, tracking_uri, doubt)
    if version is None:
        return ModelSource(model_folder(study, folder.parent, storage), None, doubt), champion
    return champion.fetch(version), champion
