"""Find the model that a study serves: the registry's champion, else the model of its best trial."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_hpo.api.prediction import model_folder
from mnist_hpo.api.studies import study_name
from mnist_hpo.bundle.writing import DESCRIPTION
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

    """

    def __init__(self, study: str, tracking_uri: str) -> None:
        self._name, self._tracking_uri = study_name(study), tracking_uri
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
        return ModelSource(found[0].parent, version)

    def _client(self) -> MlflowClient:
        from mnist_hpo.tracking.client import connect

        return connect(self._tracking_uri)


def served_model(study: str, champion: RegisteredChampion, storage: str) -> ModelSource:
    """Return a study's registered champion, else the model of its best trial.

    Raises:
        UserError: the study has no model.

    """
    version = champion.version()
    return ModelSource(model_folder(study, None, storage)) if version is None else champion.fetch(version)
