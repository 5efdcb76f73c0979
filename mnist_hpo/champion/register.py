"""A champion in MLflow: a run with all its figures and pictures, and a registered model."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import mnist_hpo
from mnist_hpo.champion.measures import SCALARS
from mnist_hpo.champion.pictures import confusion_picture
from mnist_hpo.champion.retrain import Champion
from mnist_hpo.data.registry import DATASETS
from mnist_hpo.tracking.projection import Projection
from mnist_hpo.tracking.trial_run import run_name

ALIAS = "champion"
_PACKAGE = Path(mnist_hpo.__file__).parent
_RUNTIME = ("jax", "jaxlib", "flax", "optax", "numpy", "safetensors", "mlflow", "pydantic", "ruamel.yaml")
"""What the model needs to predict; `mnist_hpo` itself travels with it."""


def register(champion: Champion, projection: Projection, provenance: Mapping[str, str]) -> dict[str, str]:
    """Log a champion run under the study's parent run and register its model.

    Args:
        champion: what was re-trained and tested; its report is written already.
        projection: the study's, opened.
        provenance: versions, commit and CPU of this re-training.

    Returns:
        `run_id`, `model_name` and `model_version`.

    """
    client = projection.client
    tags = {
        "mlflow.parentRunId": projection.parent_id,
        "mlflow.source.git.commit": provenance.get("git_commit", ""),
        "mnist_hpo.kind": "champion",
        "mnist_hpo.study_uid": projection.uid,
        "trial.number": str(champion.trial.number),
        "reproduced": champion.reproduced,
        **{f"mnist_hpo.{name}": value for name, value in provenance.items()},
    }
    run = client.create_run(projection.experiment_id, tags=tags, run_name="champion")
    run_id = run.info.run_id
    try:
        _log_figures(champion, client, run_id)
        client.log_artifacts(run_id, str(champion.report))
        model_version = _register_model(champion, client, run_id)
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return {"run_id": run_id, "model_name": champion.study.name, "model_version": model_version}


def _log_figures(champion: Champion, client: mlflow.MlflowClient, run_id: str) -> None:
    figures = champion.figures()
    now = round(time.time() * 1000)
    metrics = [Metric("valid_loss", figures["valid_loss"], now, figures["best_epoch"])]
    for name in SCALARS:
        metrics.append(Metric(f"test_{name}", figures[f"test_{name}_mean"], now, 0))
        metrics.append(Metric(f"test_{name}_std", figures[f"test_{name}_std"], now, 0))
    for kind in ("precision", "recall", "f1"):
        by_class = np.mean([getattr(measures, kind) for measures in champion.measures], axis=0)
        metrics += [Metric(f"test_{kind}_class_{label}", float(v), now, 0) for label, v in enumerate(by_class)]
    metrics += [Metric("train_loss", loss, now, 1 + e) for e, loss in enumerate(champion.train_losses[0])]
    parameters = {**figures["params"], "epochs": figures["best_epoch"], "n_seeds": figures["n_seeds"]}
    client.log_batch(run_id, metrics=metrics, params=[Param(k, str(v)) for k, v in parameters.items()])


def write_report(champion: Champion) -> Path:
    """Write a champion's figures and pictures into a folder of its own, for people and for MLflow."""
    report = champion.report
    report.mkdir(exist_ok=True)
    classes = [str(label) for label in range(DATASETS[champion.study.dataset].n_classes)]
    first = champion.measures[0]
    accuracy = f"{100 * first.accuracy:.2f} % of {len(champion.labels):,} test digits right"
    picture = confusion_picture(first.confusion, classes, f"{champion.study.name}, seed 0: {accuracy}")
    picture.savefig(report / "confusion_matrix.png", dpi=120)
    confusion = pd.DataFrame(first.confusion, index=pd.Index(classes, name="true"), columns=classes)
    confusion.to_csv(report / "confusion_matrix.csv")
    kinds = ("precision", "recall", "f1")
    by_class = {kind: np.mean([getattr(measures, kind) for measures in champion.measures], axis=0) for kind in kinds}
    pd.DataFrame(by_class, index=pd.Index(classes, name="class")).to_csv(report / "per_class.csv")
    (report / "champion.json").write_text(json.dumps(champion.figures(), indent=2) + "\n")
    return report


def _register_model(champion: Champion, client: mlflow.MlflowClient, run_id: str) -> str:
    info = DATASETS[champion.study.dataset]
    name = champion.study.name
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, info.n_features))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, info.n_classes))]),
    )
    # MLflow can log a model only into the process's one active run.
    mlflow.start_run(run_id=run_id)
    try:
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_PACKAGE / "bundle" / "mlflow_model.py"),
            artifacts={"bundle": str(champion.bundle)},
            code_paths=[str(_PACKAGE)],
            pip_requirements=[f"{package}=={version(package)}" for package in _RUNTIME],
            signature=signature,
            input_example=np.zeros((1, info.n_features), np.uint8),
        )
    finally:
        mlflow.end_run()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=champion.study.description)
    registered = client.create_model_version(name, logged.model_uri, run_id, model_id=logged.model_id)
    version_number = str(registered.version)
    client.set_registered_model_alias(name, ALIAS, version_number)
    figures = champion.figures()
    client.update_model_version(
        name,
        version_number,
        f"Trial {champion.trial.number} of the study {name} ({run_name(champion.trial.number, figures['params'])}), "
        f"re-trained on train + valid: {100 * figures['test_accuracy_mean']:.2f} ± "
        f"{100 * figures['test_accuracy_std']:.2f} % test accuracy over {figures['n_seeds']} seeds.",
    )
    return version_number
