"""`mnist-hpo sync`: rebuild MLflow's view of a study from the storage."""

from __future__ import annotations

import sys

from mnist_hpo.api.studies import recorded_study
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    StorageOption,
    StudyArgument,
    TrackingOption,
    console,
)
from mnist_hpo.spec.errors import UserError


def sync(
    study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, tracking_uri: TrackingOption = DEFAULT_TRACKING
) -> int:
    """Write everything that the storage has of a study to MLflow. Repeating it changes nothing.

    Exit code 2: MLflow cannot be written. 3: not all of the study is in MLflow afterwards.

    `run` does this by itself. Use `sync` for a study that ended while MLflow was unavailable, or for another tracking
    server.

    Example: mnist-hpo sync quickstart --tracking-uri http://127.0.0.1:5000
    """
    from rich.progress import track

    from mnist_hpo.runner import Home, projected
    from mnist_hpo.storage.lock import study_lock
    from mnist_hpo.storage.records import best_of
    from mnist_hpo.tracking.client import user_errors
    from mnist_hpo.tracking.projection import Projection

    record, file = recorded_study(storage, study)
    home = Home(storage, tracking_uri, FOLDER)
    with study_lock(storage, record.name), user_errors(tracking_uri):
        trials = record.trials()
        projection = Projection(projected(record, file.study, tracking_uri))
        projection.open(trials)
        for trial in track(trials, "writing to MLflow", console=console(to_stderr=True), transient=True):
            projection.push(trial)
        # We hold the study's lock, so no process runs the trials whose state is running.
        projection.finish(trials)
        best = best_of(trials)
        if best is not None and (bundle := home.best_bundle(record, best.number)).exists():
            projection.log_model(best.number, bundle)
        missing = projection.missing(trials)
        try:
            projection.log_plots(trials)
        except UserError as error:
            missing = ", ".join(filter(None, [missing, str(error)]))
    if missing:
        print(f"{tracking_uri} does not hold all of {record.name}: {missing}", file=sys.stderr)
        return 3
    console().print(f"{tracking_uri} holds all {len(trials)} trials of {record.name}")
    return 0
