"""Where the API looks for a user's state."""

from __future__ import annotations

import os
from pathlib import Path

from mnist_hpo.runner import Home

MLRUNS = "mlruns"


def home_of(folder: str | Path | None, storage: str | None = None, tracking_uri: str | None = None) -> Home:
    """Where state lies.

    Args:
        folder: the folder that holds mlruns/. By default the working folder, and then the environment's
            `MNIST_HPO_STORAGE` and `MLFLOW_TRACKING_URI` come before the databases in its mlruns/.
        storage: the Optuna storage's URL, if it is another one.
        tracking_uri: MLflow's tracking store or server, if it is another one.

    """
    environment = os.environ if folder is None else {}
    mlruns = Path(MLRUNS) if folder is None else Path(folder).expanduser() / MLRUNS
    return Home(
        storage or environment.get("MNIST_HPO_STORAGE") or f"sqlite:///{mlruns}/optuna.db",
        tracking_uri or environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlruns}/mlflow.db",
        mlruns,
    )
