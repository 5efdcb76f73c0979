"""Write an ensemble's report, log it to MLflow and register its model."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from mnist_hpo.champion.ensemble import Ensemble
from mnist_hpo.champion.logged_model import log_model
from mnist_hpo.champion.measures import SCALARS
from mnist_hpo.champion.pictures import confusion_picture, mistakes_picture
from mnist_hpo.champion.register import ALIAS
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.tracking.datasets import dataset_input
from mnist_hpo.tracking.projection import Projection


def write_ensemble_report(ensemble: Ensemble, name: str) -> None:
    """Write the figures and pictures of an ensemble's test to its report folder."""
    report = ensemble.report
    report.mkdir(exist_ok=True)
    info = dataset_info(ensemble.members[0].study.dataset)
    figures, first = ensemble.figures(), ensemble.measures[0]
    classes = [str(label) for label in range(info.n_classes)]
    accuracy = f"{100 * first.accuracy:.2f} % of {len(ensemble.labels):,} test digits right"
    confusion_picture(first.confusion, classes, f"{name}: {accuracy}").savefig(report / "confusion_matrix.png", dpi=120)
    mistakes_picture(ensemble.images, ensemble.labels, ensemble.log_probabilities, info.image_shape).savefig(
        report / "misclassified.png", dpi=110
    )
    pd.DataFrame(figures["members"]).to_csv(report / "members.csv", index=False)
    (report / "ensemble.json").write_text(json.dumps(figures, indent=2) + "\n")
    np.savez_compressed(
        report / "predictions.npz",
        guesses=ensemble.predictions,
        seeds=np.arange(len(ensemble.predictions)),
        labels=np.asarray(ensemble.labels),
    )


def register_ensemble(
    ensemble: Ensemble, name: str, projection: Projection, provenance: Mapping[str, str]
) -> dict[str, str]:
    """Log an ensemble's run under the parent run of its first study, and register its model with the alias champion.

    Args:
        ensemble: the tested ensemble, with its report written.
        name: the registered model's name.
        projection: the first study's projection, opened.
        provenance: versions, commit and CPU of this process.

    Returns:
        `run_id`, `model_name` and `model_version`.

    """
    client, study, figures = projection.client, ensemble.members[0].study, ensemble.figures()
    tags = {
        "mlflow.parentRunId": projection.parent_id,
        "mlflow.source.git.commit": provenance.get("git_commit", ""),
        "mnist_hpo.kind": "ensemble",
        "mnist_hpo.study_uid": projection.subject.uid,
        **{f"mnist_hpo.{key}": value for key, value in provenance.items()},
    }
    run_id = client.create_run(projection.experiment_id, tags=tags, run_name=name).info.run_id
    try:
        now = round(time.time() * 1000)
        metrics = [Metric(key, figures[key], now, 0) for key in ("valid_loss", "valid_accuracy")]
        for measure in SCALARS:
            metrics.append(Metric(f"test_{measure}", figures[f"test_{measure}_mean"], now, 0))
            metrics.append(Metric(f"test_{measure}_std", figures[f"test_{measure}_std"], now, 0))
        described = {
            "method": ensemble.method,
            "n_members": len(ensemble.members),
            "n_seeds": figures["n_seeds"],
            "studies": ", ".join(sorted({member.study.name for member in ensemble.members})),
        }
        client.log_batch(run_id, metrics=metrics, params=[Param(key, str(value)) for key, value in described.items()])
        client.log_artifacts(run_id, str(ensemble.report))
        inputs = [dataset_input(study, ensemble.dataset_digest, part) for part in ("development", "test")]
        client.log_inputs(run_id, datasets=inputs)
        logged = log_model(
            ensemble.bundle,
            client,
            projection.experiment_id,
            run_id,
            measured=metrics,
            n_classes=dataset_info(study.dataset).n_classes,
            example=ensemble.example,
        )
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        registered = client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)
        number = str(registered.version)
        client.set_registered_model_alias(name, ALIAS, number)
        accuracy = f"{100 * figures['test_accuracy_mean']:.2f} ± {100 * figures['test_accuracy_std']:.2f} %"
        client.update_model_version(
            name,
            number,
            f"An ensemble of {len(ensemble.members)} members by {ensemble.method}: {accuracy} test accuracy over "
            f"{figures['n_seeds']} seeds.",
        )
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return {"run_id": run_id, "model_name": name, "model_version": number}
