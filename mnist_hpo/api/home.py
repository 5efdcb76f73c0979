"""The location of a user's state: the storage, the tracking store and mlruns/."""

from __future__ import annotations

import os
from pathlib import Path

from mnist_hpo.runner import Home

MLRUNS = "mlruns"


def home_of(folder: str | Path | None, storage: str | None = None, tracking_uri: str | None = None) -> Home:
    """Return the location of a user's state.

    Args:
        folder: the folder that contains mlruns/. By default the working folder; only then `MNIST_HPO_STORAGE` and
            `MLFLOW_TRACKING_URI` in the environment take precedence over the databases in its mlruns/.
        storage: the Optuna storage's URL, which overrides the default.
        tracking_uri: MLflow's tracking store or server, which overrides the default.

    """
    environment = os.environ if folder is None else {}
    mlruns = Path(MLRUNS) if folder is None else Path(folder).expanduser() / MLRUNS
    return Home(
        storage or environment.get("MNIST_HPO_STORAGE") or f"sqlite:///{mlruns}/optuna.db",
        tracking_uri or environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlruns}/mlflow.db",
        mlruns,
    )
