"""The MLflow model over a bundle, as code (MLflow runs this file when it loads the model): nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from mnist_hpo.bundle.bundle import load_bundle


class BundleModel(PythonModel):
    """Images [n, n_features] of 0 to 255 in; probabilities f32[n, n_classes] out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle that was logged with the model."""
        self._bundle = load_bundle(Path(context.artifacts["bundle"]))

    # MLflow reads the hint of the input: a plain array is the one kind of which it does not want to make a schema.
    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # by that hint alone
        self,
        context: PythonModelContext,
        model_input: np.ndarray[Any, Any],
        params: dict[str, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Predict the digit of each image."""
        return np.exp(self._bundle.log_probabilities(np.asarray(model_input, np.uint8)))


set_model(BundleModel())
