"""The connection to MLflow. Importing MLflow takes a second, so import this module only where it is needed."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Generator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.tracking.database import check_in_place, local_database, open_database

_NOISY = ("mlflow", "mlflow.store.db.utils", "mlflow.utils.environment", "alembic")


@contextlib.contextmanager
def user_errors(tracking_uri: str) -> Generator[None]:
    """Convert errors of MLflow to a `UserError` that names the store and the cause."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise UserError(f"MLflow at {tracking_uri} cannot be written: {first_line(error)}") from error


def check_reachable(tracking_uri: str) -> None:
    """Check that a store responds, before hours of work are written to it.

    Raises:
        UserError: the store does not respond.

    """
    with user_errors(tracking_uri):
        connect(tracking_uri).search_experiments(max_results=1)


def connect(tracking_uri: str) -> MlflowClient:
    """Return a client of a tracking store. Create a local database if there is none.

    MLflow's global state in this process, such as its tracking URI and the active run, is not changed.

    Raises:
        DatabaseReplacedError: the local database is not the file that this process opened before.

    """
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    path = local_database(tracking_uri)
    if path is None:
        return MlflowClient(tracking_uri)
    open_database(path)
    client = MlflowClient(tracking_uri)
    check_in_place(path)
    return client


def open_experiment(client: MlflowClient, tracking_uri: str, name: str, tags: Mapping[str, str]) -> str:
    """Return an experiment's id. Create it with the tags if it does not exist; restore it if it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    database = local_database(tracking_uri)
    artifacts = None if database is None else (database.parent.resolve() / "artifacts" / name).as_uri()
    # For UIs that read the kind. That of MLflow 3.17 does not: it has a switch between "GenAI" and "Model training",
    # which is set by the URL (`workflowType`, see `saved_view`) or remembered by the browser.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return client.create_experiment(name, artifact_location=artifacts, tags={**kind, **tags})


def runs_with_tags(client: MlflowClient, experiment_id: str, **tags: str) -> list[Run]:
    """Return all active runs of an experiment with these tags, oldest first. Write a dot in a tag's name as __."""
    wanted = " and ".join(f"tags.`{name.replace('__', '.')}` = '{value}'" for name, value in tags.items())
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], wanted, ViewType.ACTIVE_ONLY, 1000, ["attributes.start_time ASC"], token
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs
