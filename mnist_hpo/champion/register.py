"""Log a champion to MLflow: a run with its figures and pictures, and a registered model."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Param
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from mnist_hpo.bundle.pixels import accepted_shapes
from mnist_hpo.champion.calibration import calibrate
from mnist_hpo.champion.logged_model import log_model
from mnist_hpo.champion.measures import SCALARS
from mnist_hpo.champion.pictures import (
    confusion_picture,
    learning_curves_picture,
    mistakes_picture,
    reliability_picture,
)
from mnist_hpo.champion.retrain import Champion
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.tracking.datasets import dataset_input
from mnist_hpo.tracking.projection import Projection
from mnist_hpo.tracking.trial_run import run_name

ALIAS = "champion"
_BY_CLASS = ("precision", "recall", "f1")


def register(
    champion: Champion, projection: Projection, provenance: Mapping[str, str], *, is_best: bool
) -> dict[str, str | None]:
    """Log a re-trained trial's run under the study's parent run and register its model.

    Args:
        champion: the re-trained and tested trial, with its report written.
        projection: the study's projection, opened.
        provenance: versions, commit and CPU of this re-training.
        is_best: whether the trial is the study's best; only then does the model get the alias champion.

    Returns:
        `run_id`, `model_name` and `model_version` (None if every seed diverged; then the run is FAILED), and
        `champion_version`, the version that has the alias now, or None.

    """
    client = projection.client
    tags = {
        "mlflow.parentRunId": projection.parent_id,
        "mlflow.source.git.commit": provenance.get("git_commit", ""),
        "mnist_hpo.kind": "champion",
        "mnist_hpo.study_uid": projection.subject.uid,
        "trial.number": str(champion.trial.number),
        "reproduced": champion.reproduced,
        "n_diverged": str(champion.n_diverged),
        **{f"mnist_hpo.{name}": value for name, value in provenance.items()},
    }
    name = "champion" if is_best else f"trial {champion.trial.number}, tested"
    run = client.create_run(projection.experiment_id, tags=tags, run_name=name)
    run_id = run.info.run_id
    try:
        metrics = _log_figures(champion, client, run_id)
        client.log_artifacts(run_id, str(champion.report))
        inputs = [dataset_input(champion.study, champion.dataset_digest, part) for part in ("development", "test")]
        client.log_inputs(run_id, datasets=inputs)
        model_version = None
        if champion.bundle is not None:
            of_model = [metric for metric in metrics if metric.step == 0]
            logged = log_model(
                champion.bundle,
                client,
                projection.experiment_id,
                run_id,
                measured=of_model,
                n_classes=dataset_info(champion.study.dataset).n_classes,
                example=champion.example,
            )
            model_version = _register_model(champion, client, run_id, logged, is_best=is_best)
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FAILED" if model_version is None else "FINISHED")
    named = client.search_registered_models(f"name = '{champion.study.name}'")
    champion_version = named[0].aliases.get(ALIAS) if named else None
    return {
        "run_id": run_id,
        "model_name": None if model_version is None else champion.study.name,
        "model_version": model_version,
        # MLflow's database client returns a number, its server client a string.
        "champion_version": None if champion_version is None else str(champion_version),
    }


def _seeds(champion: Champion) -> str:
    """Return text such as `3 seeds`, or how many of them did not diverge."""
    if not champion.n_diverged:
        return f"{champion.n_seeds} seeds"
    return f"{len(champion.measures)} of {champion.n_seeds} seeds (the others diverged)"


def _log_figures(champion: Champion, client: MlflowClient, run_id: str) -> list[Metric]:
    """Log hyperparameters and metrics; return the metrics."""
    figures = champion.figures()
    now = round(time.time() * 1000)
    metrics = [Metric("valid_loss", figures["valid_loss"], now, figures["best_epoch"])]
    if champion.measures:
        for name in SCALARS:
            metrics.append(Metric(f"test_{name}", figures[f"test_{name}_mean"], now, 0))
            metrics.append(Metric(f"test_{name}_std", figures[f"test_{name}_std"], now, 0))
        for kind, by_class in _by_class(champion).items():
            metrics += [Metric(f"test_{kind}_class_{label}", float(v), now, 0) for label, v in enumerate(by_class)]
    shown = champion.train_losses[champion.registered_seed or 0]
    metrics += [Metric("train_loss", loss, now, 1 + e) for e, loss in enumerate(shown) if math.isfinite(loss)]
    parameters = {**figures["params"], "epochs": figures["best_epoch"], "n_seeds": figures["n_seeds"]}
    client.log_batch(run_id, metrics=metrics, params=[Param(k, str(v)) for k, v in parameters.items()])
    return metrics


def _by_class(champion: Champion) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 of each class: the means over the seeds that did not diverge."""
    return {
        kind: np.mean([getattr(measures, kind) for measures in champion.measures.values()], axis=0)
        for kind in _BY_CLASS
    }


def write_report(champion: Champion) -> Path:
    """Write a champion's figures and pictures to its report folder; return the folder."""
    report = champion.report
    report.mkdir(exist_ok=True)
    name = f"{champion.study.name}, trial #{champion.trial.number}"
    curves = learning_curves_picture(champion.trial, champion.train_losses, f"{name}: learning curves")
    curves.savefig(report / "learning_curves.png", dpi=110)
    if champion.registered_seed is not None and champion.log_probabilities is not None:
        _write_test(champion, champion.registered_seed, champion.log_probabilities, report)
    (report / "champion.json").write_text(json.dumps(champion.figures(), indent=2) + "\n")
    return report


def _write_test(champion: Champion, seed: int, log_probabilities: NDArray[np.float32], report: Path) -> None:
    """Write the figures and pictures of the test; those of one model are the registered seed's."""
    classes = [str(label) for label in range(dataset_info(champion.study.dataset).n_classes)]
    first = champion.measures[seed]
    accuracy = f"{100 * first.accuracy:.2f} % of {len(champion.labels):,} test digits right"
    picture = confusion_picture(first.confusion, classes, f"{champion.study.name}, seed {seed}: {accuracy}")
    picture.savefig(report / "confusion_matrix.png", dpi=120)
    mistakes_picture(
        champion.images, champion.labels, log_probabilities, dataset_info(champion.study.dataset).image_shape
    ).savefig(report / "misclassified.png", dpi=110)
    calibration = calibrate(champion.labels, log_probabilities)
    name = f"{champion.study.name}, trial #{champion.trial.number}, seed {seed}"
    title = f"{name}: expected calibration error {calibration.error:.4f}"
    reliability_picture(calibration, title).savefig(report / "reliability.png", dpi=110)
    confusion = pd.DataFrame(first.confusion, index=pd.Index(classes, name="true"), columns=classes)
    confusion.to_csv(report / "confusion_matrix.csv")
    by_class = {**_by_class(champion), "support": np.bincount(champion.labels, minlength=len(classes))}
    pd.DataFrame(by_class, index=pd.Index(classes, name="class")).to_csv(report / "per_class.csv")
    # `mnist-hpo compare` uses the predictions for paired tests of two champions, seed by seed.
    np.savez_compressed(
        report / "predictions.npz",
        guesses=champion.predictions,
        seeds=np.array(list(champion.measures)),
        labels=np.asarray(champion.labels),
    )


def _register_model(
    champion: Champion, client: MlflowClient, run_id: str, logged: LoggedModel, *, is_best: bool
) -> str:
    info = dataset_info(champion.study.dataset)
    figures = champion.figures()
    study = champion.study
    name = study.name
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    shapes = " or ".join(f"[n, {', '.join(map(str, shape))}]" for shape in accepted_shapes(info.image_shape)[:2])
    described = f"{study.description}\n\n" if study.description else ""
    client.update_registered_model(
        name,
        f"{described}Trials of the study {name}, re-trained on train + valid. Takes images {shapes} "
        f"with values from 0 to 255, integers or floats; returns probabilities f32[n, {info.n_classes}].",
    )
    for key, value in {
        "study": name,
        "dataset": study.dataset_name,
        "split": study.split,
        "model": study.model,
    }.items():
        client.set_registered_model_tag(name, key, value)
    # Not `logged.model_uri`, which MLflow's registry would look up in the tracking store of the process.
    registered = client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)
    version_number = str(registered.version)
    if is_best:
        client.set_registered_model_alias(name, ALIAS, version_number)
    accuracy = f"{100 * figures['test_accuracy_mean']:.2f} ± {100 * figures['test_accuracy_std']:.2f} %"
    client.update_model_version(
        name,
        version_number,
        f"Trial {champion.trial.number} of the study {name} ({run_name(champion.trial.number, figures['params'])}), "
        f"re-trained on train + valid: {accuracy} test accuracy over {_seeds(champion)}.",
    )
    tags = {
        "trial.number": str(champion.trial.number),
        "dataset_digest": champion.dataset_digest,
        "reproduced": champion.reproduced,
        "test_accuracy": accuracy,
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, version_number, key, value)
    return version_number
