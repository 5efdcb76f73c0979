"""Settings of MLflow's client, for processes of our own: the command line and the writer."""

from __future__ import annotations

import os

_DEFAULTS = {
    # A request to a server that hangs fails soon, and is tried again.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Standard output is for results, which may be JSON.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def set_mlflow_defaults() -> None:
    """Set what the user has not set. Call it before MLflow is imported, and never in a process of the user's."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
