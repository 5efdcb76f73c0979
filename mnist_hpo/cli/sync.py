"""`mnist-hpo sync`: rebuild MLflow's view of a study from the storage."""

from __future__ import annotations

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    StorageOption,
    StudyArgument,
    TrackingOption,
    console,
    recorded_study,
)


def sync(
    study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE, tracking_uri: TrackingOption = DEFAULT_TRACKING
) -> None:
    """Bring MLflow up to what the storage holds; repeating it changes nothing.

    `run` does so by itself; this is for a study that ended while MLflow was away, or for another tracking server.

    Example: mnist-hpo sync quickstart --tracking-uri http://127.0.0.1:5000
    """
    from rich.progress import track

    from mnist_hpo.runner import Home, make_projection
    from mnist_hpo.storage.lock import study_lock

    record, file = recorded_study(storage, study)
    with study_lock(storage, record.name):
        trials = record.trials()
        projection = make_projection(record, file.study, Home(storage, tracking_uri, FOLDER))
        projection.open()
        for trial in track(trials, "writing to MLflow", console=console(to_stderr=True), transient=True):
            projection.push(trial)
        projection.finish(trials, interrupted=len(trials) < file.study.budget.n_trials)
    console().print(f"{tracking_uri} holds all {len(trials)} trials of {record.name}")
