"""Log a bundle to MLflow as a model that MLflow can load and serve."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

_PACKAGE = Path(__file__).resolve().parents[1]
_RUNTIME = (
    *("jax", "jaxlib", "flax", "optax", "numba", "llvmlite", "numpy"),
    *("safetensors", "mlflow", "pydantic", "ruamel.yaml"),
)
"""The packages that the model needs for prediction; the code of `mnist_hpo` is logged with the model."""


def log_model(
    bundle: Path,
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    *,
    measured: Sequence[Metric],
    n_classes: int,
    example: NDArray[np.uint8],
) -> LoggedModel:
    """Log the model of a bundle, without `mlflow.pyfunc.log_model`, which needs the process's global state.

    Args:
        bundle: the model's folder.
        client: of the tracking store.
        experiment_id: the experiment of the run.
        run_id: the run that the model belongs to.
        measured: the metrics of the model.
        n_classes: the number of classes.
        example: u8[1, n_features], an example of the input.

    """
    # No schema of the input: MLflow's admits one dtype and one shape, and the model checks its input itself.
    signature = ModelSignature(outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, n_classes))]))
    logged = client.create_logged_model(
        experiment_id, name="model", source_run_id=run_id, params=client.get_run(run_id).data.params
    )
    try:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        metrics = [
            Metric(m.key, m.value, m.timestamp, m.step, model_id=logged.model_id, run_id=run_id) for m in measured
        ]
        client.log_batch(run_id, metrics=metrics)
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-model-") as folder:
            path = Path(folder) / "model"
            mlflow.pyfunc.save_model(
                path,
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    run_id=run_id,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                ),
                python_model=str(_PACKAGE / "bundle" / "mlflow_model.py"),
                artifacts={"bundle": str(bundle)},
                code_paths=[str(_PACKAGE)],
                pip_requirements=[f"{package}=={version(package)}" for package in _RUNTIME],
                signature=signature,
                input_example=example,
            )
            client.log_model_artifacts(logged.model_id, str(path))
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return client.finalize_logged_model(logged.model_id, "READY")
