"""Settings of MLflow's client for our own processes: the command line and the writer."""

from __future__ import annotations

import os

_DEFAULTS = {
    # A request to a server that hangs fails early, and we retry.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Standard output carries results, which may be JSON.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def set_mlflow_defaults() -> None:
    """Set the variables that the user has not set. Call this before MLflow is imported, never in a user's process."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
