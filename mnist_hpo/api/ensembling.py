"""Make an ensemble of the best trials of recorded studies, test it and register it, in this process.

The process must have a worker's environment before JAX starts; see `retraining`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnist_hpo.analysis.trial_figures import ranked
from mnist_hpo.api.retraining import RetrainDisplay, write_errors_for_user
from mnist_hpo.bundle.combination import Method
from mnist_hpo.bundle.replace import replacing
from mnist_hpo.champion.ensemble import Ensemble, Member, check_members, train_ensemble
from mnist_hpo.champion.register_ensemble import register_ensemble, write_ensemble_report
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.make_executor import executor_factory
from mnist_hpo.initial_weights import with_kept_weights
from mnist_hpo.runner import Home, projected
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import provenance
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.client import check_reachable, user_errors
from mnist_hpo.tracking.projection import Projection

RESAMPLING: tuple[Method, ...] = ("bagging", "boosting")
"""The methods whose members differ in the examples that they learn from."""


@dataclass(frozen=True)
class EnsembleRequest:
    """What to make an ensemble of."""

    name: str
    """Of the folder and the registered model."""
    method: Method
    top: int
    """How many of the best trials of each study."""
    n_copies: int
    """How often each trial is trained, with different seeds."""
    n_seeds: int
    """How often the whole ensemble is trained for the test."""
    executor: str
    n_workers: int | None


def ensemble_recorded(
    studies: Sequence[tuple[StudyStorage, Study]], home: Home, request: EnsembleRequest, display: RetrainDisplay
) -> dict[str, Any]:
    """Make, test and register an ensemble.

    Returns:
        The figures that `mnist-hpo ensemble --json` prints.

    Raises:
        UserError: an error that the user can fix; an earlier ensemble of the name is kept.

    """
    start_executor = executor_factory(request.executor)
    record, study = studies[0]
    # Held until the last write to MLflow, since a search of the study would interfere.
    with study_lock(home.storage_url, record.name):
        members = [
            Member(with_kept_weights(study, home), trial, copy)
            for record, study in studies
            for trial in ranked(record.trials())[: request.top]
            for copy in range(request.n_copies)
        ]
        check_members(members)
        if len(members) < 2:
            raise UserError("an ensemble needs at least two members; raise --top or --copies")
        check_reachable(home.tracking_uri)
        dataset = prepare(dataset_info(study.dataset), log=display.say)
        folder = home.folder / "ensembles" / request.name
        with write_errors_for_user(folder), replacing(folder) as new:
            executor = start_executor(request.n_workers)
            try:
                with display.training(
                    f"training {len(members)} members", _n_epochs(members, request.n_seeds)
                ) as advance:
                    ensemble = train_ensemble(
                        members,
                        request.method,
                        n_seeds=request.n_seeds,
                        dataset=dataset,
                        executor=executor,
                        folder=new,
                        on_epoch=advance,
                    )
            finally:
                executor.close()
            _delete_checkpoints(ensemble)
            write_ensemble_report(ensemble, request.name)
        ensemble = dataclasses.replace(ensemble, folder=folder)
        registered = _register(ensemble, request.name, record, study, home.tracking_uri)
    return {
        "name": request.name,
        **ensemble.figures(),
        **registered,
        "report": str(ensemble.report),
        "model": str(ensemble.bundle),
    }


def _n_epochs(members: Sequence[Member], n_seeds: int) -> int:
    """Return the number of epochs of all trainings; members without a weight will be trained less often."""
    return sum(member.study.budget.max_epochs + n_seeds * (member.trial.kept_epoch or 0) for member in members)


def _delete_checkpoints(ensemble: Ensemble) -> None:
    for path in [*ensemble.folder.glob("*.safetensors"), *ensemble.folder.glob("*.npy")]:
        path.unlink()


def _register(ensemble: Ensemble, name: str, record: StudyStorage, study: Study, tracking_uri: str) -> dict[str, str]:
    projection = Projection(projected(record, study, tracking_uri))
    try:
        with user_errors(tracking_uri):
            trials = record.trials()
            projection.open(trials)
            registered = register_ensemble(ensemble, name, projection, provenance())
            projection.finish(trials)
    except UserError as error:
        raise UserError(f"{error}\nThe ensemble is tested but not registered: {ensemble.report}") from error
    return registered
