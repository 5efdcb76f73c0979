"""The MLflow model of a bundle, logged as code, without pickles. MLflow runs this file when it loads the model."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.pixels import to_pixels
from mnist_hpo.spec.errors import UserError


class BundleModel(PythonModel):
    """Maps images with values from 0 to 255, see `to_pixels`, to probabilities f32[n, n_classes]."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle that was logged with the model, and check its digests."""
        self._bundle = load_bundle(Path(context.artifacts["bundle"]))

    # MLflow warns about type hints that it cannot convert to a schema, such as `np.ndarray[Any, Any]`, but accepts the
    # bare class.
    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # due to that hint
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Return the probability of each digit, for each image.

        Raises:
            MlflowException: the input is not images with values from 0 to 255.

        """
        try:
            pixels = to_pixels(model_input, self._bundle.model.image_shape)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return np.exp(self._bundle.log_probabilities(pixels))


set_model(BundleModel())
